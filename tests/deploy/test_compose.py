"""The compose file: what it mounts and names exists, what it runs is bounded, and its
configuration compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway import __version__
from gateway.config.tables.addresses import AdminMetricsConfig
from gateway.runtime.check import check
from tests.process import ROOT

HERE = ROOT / "deploy" / "compose"
TEXT = (HERE / "compose.yaml").read_text("utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
ENVIRON = {"UPSTREAM": "http://127.0.0.1:3001", "REDIS_URL": "redis://:secret@redis:6379/0"}


def test_who_runs():
    assert set(SERVICES) == {"gateway-1", "gateway-2", "redis", "prometheus", "grafana"}
    assert SERVICES["gateway-1"]["image"] == f"edge-gateway:{__version__}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_refers_to_what_exists(name: str):
    service = SERVICES[name]
    assert service["mem_limit"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[\w./-]+:\w[\w.-]*\d[\w.-]*", service["image"]), "no fixed version"
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (HERE / source).exists(), volume


def test_published_ports_differ_and_operators_ports_stay_here():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)
    for name in ("redis", "prometheus", "grafana"):
        for port in SERVICES[name].get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_passwords_come_from_outside():
    for line in TEXT.splitlines():
        if re.match(r"\s*\w*PASSWORD: ", line):
            assert re.search(r"PASSWORD: \$\{\w+:\?.+\}$", line), line


def test_the_configuration_compiles(tmp_path: Path):
    shutil.copytree(HERE / "config", tmp_path / "config")
    (tmp_path / "config" / "keys.toml").touch()
    loaded = check(tmp_path / "config" / "gateway.toml", ENVIRON)
    assert loaded.warnings == ()
    server = loaded.gateway.server
    grace = float(SERVICES["gateway-1"]["stop_grace_period"].removesuffix("s"))
    assert grace > server.shutdown_delay + server.shutdown_timeout


def test_prometheus_finds_its_rules_and_the_gateways(tmp_path: Path):
    """promtool looks for rule files beside the configuration, where the container has them."""
    for volume in SERVICES["prometheus"]["volumes"]:
        if volume.startswith("."):
            source, target, _ = volume.split(":")
            shutil.copy(HERE / source, tmp_path / Path(target).name)
    checked = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    (job,) = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    port = AdminMetricsConfig().port
    assert job["static_configs"][0]["targets"] == [f"gateway-1:{port}", f"gateway-2:{port}"]


def test_grafana_knows_where_prometheus_and_the_dashboard_are():
    volumes = {one.split(":")[0]: one.split(":")[1] for one in SERVICES["grafana"]["volumes"]}
    (source,) = yaml.safe_load((HERE / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (folder,) = yaml.safe_load((HERE / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert Path(volumes["../grafana/gateway.json"]).parent == Path(folder["options"]["path"])
