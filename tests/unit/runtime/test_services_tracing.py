"""The tracer of a configuration, and what its spans hide."""

from __future__ import annotations

from pathlib import Path

from gateway.lifetime.registry import Registry
from gateway.runtime.build import settings_of
from gateway.runtime.reload import load
from gateway.runtime.services import _masks, tracer_of
from tests.flow.conftest import PLAIN, write

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:9"\n'
TRACING = '[tracing]\notlp = "http://127.0.0.1:9"\n'


def loaded(directory: Path, gateway: str = TRACING, pipeline: str = ""):
    write(directory, pipeline + PLAIN, UPSTREAM, gateway)
    return load(directory / "gateway.toml", {})


def traced(config, draft):
    return tracer_of(config, draft, settings_of(config), frozenset())


def test_without_the_table_there_is_none(tmp_path: Path):
    assert traced(loaded(tmp_path, ""), Registry().draft()) is None


def test_the_queue_outlasts_a_reload_that_changes_the_share(tmp_path: Path):
    registry = Registry()
    first, second = registry.draft(), registry.draft()
    one = traced(loaded(tmp_path), first)
    other = traced(loaded(tmp_path, f"{TRACING}sample = 0.1\n"), second)
    assert one is not None and other is not None
    assert one._append == other._append and one._sample != other._sample
    moved = loaded(tmp_path, TRACING.replace(":9", ":8"))
    third = traced(moved, registry.draft())
    assert third is not None and third._append != one._append
    registry.close()


def test_all_that_any_log_hides_is_hidden(tmp_path: Path):
    pipeline = (
        'response = ["logging"]\n[logging]\nfile = ""\nsyslog = { address = "udp://127.0.0.1:9" }\n'
        'mask = ["Session", "User-Agent"]\nmask_patterns = ["email"]\nclient_ip = "masked"\n'
    )
    masks = _masks(settings_of(loaded(tmp_path, pipeline=pipeline)), frozenset(("apikey",)))
    shown = masks.query("session=1&apikey=2&token=3&a=4")
    assert shown == "session=***&apikey=***&token=***&a=4"
    assert masks.text("/users/a@b.example") == "/users/***"
    assert masks.address("192.0.2.7") == "192.0.2.0" and not masks.agent


def test_without_a_log_the_usual_names_are_hidden(tmp_path: Path):
    masks = _masks(settings_of(loaded(tmp_path)), frozenset())
    assert masks.query("password=x&a=1") == "password=***&a=1"
    assert masks.text("a@b.example") == "a@b.example" and masks.address("192.0.2.7") == "192.0.2.7"
