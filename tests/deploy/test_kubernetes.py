"""The manifests are what Kubernetes takes, fit together, and their configuration compiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.admin.application import PUBLIC
from gateway.config.tables.addresses import AdminMetricsConfig
from gateway.config.tables.server import ListenConfig
from gateway.core.telemetry import Telemetry
from gateway.runtime.check import check
from tests.process import ROOT

HERE = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((HERE / "kustomization.yaml").read_text("utf-8"))
MANIFESTS: dict[str, Any] = {
    one["kind"]: one
    for name in KUSTOMIZATION["resources"]
    for one in yaml.safe_load_all((HERE / name).read_text("utf-8"))
}
POD = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
LABELS = POD["metadata"]["labels"]


@pytest.mark.parametrize("version", ["1.31", "1.33"])
@pytest.mark.parametrize("kind", MANIFESTS)
def test_kubernetes_takes_it(kind: str, version: str):
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_an_unknown_field_is_found():
    """What the test above relies on."""
    wrong = {**MANIFESTS["Service"], "spec": {**MANIFESTS["Service"]["spec"], "selectr": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_every_manifest_is_applied():
    files = {path.name for path in HERE.glob("*.yaml")}
    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    assert set(MANIFESTS) == {
        "ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler",
        "NetworkPolicy",
    }  # fmt: skip


def test_selectors_find_the_pods():
    specs = {kind: one.get("spec", {}) for kind, one in MANIFESTS.items()}
    assert specs["Service"]["selector"] == LABELS
    assert specs["NetworkPolicy"]["podSelector"]["matchLabels"] == LABELS
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert specs[kind]["selector"]["matchLabels"] == LABELS
    scaled = specs["HorizontalPodAutoscaler"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", "edge-gateway")


def test_ports_are_the_gateways():
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    assert ports == {"http": ListenConfig().port, "metrics": AdminMetricsConfig().port}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert asked["port"] == "metrics" and asked["path"] in PUBLIC


def test_it_scales_by_a_metric_that_there_is():
    metrics = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    named = {one["pods"]["metric"]["name"] for one in metrics if one["type"] == "Pods"}
    assert named and named <= {family.name for family in Telemetry().families}


def test_it_may_do_nothing_but_serve():
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert CONTAINER["image"] == f"edge-gateway:{__version__}"


def test_the_configuration_compiles(tmp_path: Path):
    (tmp_path / "keys.toml").touch()
    for name, text in MANIFESTS["ConfigMap"]["data"].items():
        text = text.replace("/etc/gateway-keys", str(tmp_path))
        (tmp_path / name).write_text(text)
    loaded = check(tmp_path / "gateway.toml", {"REDIS_URL": "redis://:secret@redis:6379/0"})
    assert loaded.warnings == ()
    assert loaded.gateway.server.watch > 0
    stop = loaded.gateway.server
    seconds = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = seconds + stop.shutdown_delay + stop.shutdown_timeout
    assert POD["spec"]["terminationGracePeriodSeconds"] > needed
