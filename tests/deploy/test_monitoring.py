"""Alert rules and dashboard ask for metrics that exist, with labels that they have; promtool takes
the rules and runs their tests."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.core.telemetry import Telemetry
from tests.process import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "gateway.json").read_text("utf-8"))
SYSTEMS = PROMETHEUS / "systems"
"""Rules and dashboards of the systems in examples/."""
DASHBOARDS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted(GRAFANA.glob("systems/*.json"))
} | {"gateway": DASHBOARD}
RULES = [
    rule
    for file in sorted(PROMETHEUS.rglob("*.rules.yml"))
    for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that every series may have."""


def exposed() -> dict[str, set[str]]:
    """Names and labels of every series of /metrics."""
    found: dict[str, set[str]] = {}
    for family in Telemetry().families:
        names = (
            [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
            if family.kind == "histogram"
            else [family.name]
        )
        found.update({name: {*family.labels, *OF_PROMETHEUS} for name in names})
    return found


METRICS = exposed()


def mistakes(query: str) -> list[str]:
    """What a query asks for that there is not."""
    found = []
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', query)
    labels: set[str] = set()
    for name, selector in re.findall(r"\b(gateway_\w+)(?:\{([^}]*)\})?", bare):
        known = METRICS.get(name)
        if known is None:
            found.append(f"no metric {name}")
            continue
        labels |= known
        named = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
        found += [f"{name} has no label {label}" for label in named if label not in known]
    recorded = set(re.findall(r"\bgateway:[\w:]+", bare))
    found += [f"{name} is not recorded" for name in sorted(recorded - RECORDED)]
    if not recorded:
        for group in re.findall(r"\bby\s*\(([^)]*)\)", bare):
            words = {word.strip() for word in group.split(",")} - {""}
            found += [f"nothing has a label {label}" for label in sorted(words - labels)]
    return found


def queries(node: Any) -> Iterator[str]:
    """Every query of a dashboard, those of its variables included."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query") and isinstance(value, str) and "gateway" in value:
                yield value
            else:
                yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_ask_for_what_there_is(name: str):
    asked = list(queries(DASHBOARDS[name]))
    assert len(asked) > (25 if name == "gateway" else 10)
    assert {query: found for query in asked if (found := mistakes(query))} == {}


def test_rules_ask_for_what_there_is():
    assert {rule["expr"]: found for rule in RULES if (found := mistakes(rule["expr"]))} == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("gateway_requests_total", []),
        ("gateway_request_total", ["no metric gateway_request_total"]),
        ("gateway_request_duration_seconds", ["no metric gateway_request_duration_seconds"]),
        ('gateway_circuit_state{route="a"}', ["gateway_circuit_state has no label route"]),
        ("sum by (rout) (gateway_requests_total)", ["nothing has a label rout"]),
        ("gateway:nothing:ratio > 1", ["gateway:nothing:ratio is not recorded"]),
    ],
)
def test_mistakes_are_found(query: str, expected: list[str]):
    """What the tests above rely on."""
    assert mistakes(query) == expected


def test_every_alert_is_tested():
    tested = {
        one["alertname"]
        for file in (PROMETHEUS / "gateway.test.yml", SYSTEMS / "systems.test.yml")
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert {rule["alert"] for rule in RULES if "alert" in rule} == tested


def promtool(*arguments: str | Path) -> str:
    """What it says. Fails the test if it finds anything wrong."""
    found = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_promtool_runs_the_rules_tests():
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "gateway.test.yml")
    assert "SUCCESS" in promtool("test", "rules", SYSTEMS / "systems.test.yml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_promtool_takes_the_dashboards_queries(tmp_path: Path, name: str):
    rules = [
        {
            "record": f"q:{number}",
            "expr": query.replace("$__rate_interval", "5m").replace("$", ""),
        }
        for number, query in enumerate(queries(DASHBOARDS[name]))
        if not query.startswith("label_values")
    ]
    document = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str):
    taken = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(numbers)) == len(numbers)
