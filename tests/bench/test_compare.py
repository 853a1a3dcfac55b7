"""What bench/compare.py asks of the proxies, and the files it makes for them."""

from __future__ import annotations

import argparse
import shutil
import ssl
from pathlib import Path

import pytest

from bench import report
from bench.compare import HERE, PEERS, PROFILES, PYTHON, Load, commands, write_templates
from gateway.runtime.check import check


def wrk(profile: str) -> list[str]:
    return Load(PROFILES[profile], 1, 64).wrk(80, 1)


def test_what_wrk_is_told():
    assert wrk("plain")[-1] == "http://127.0.0.1:80/api/v1/cameras"
    assert wrk("tls")[-1] == "https://127.0.0.1:80/api/v1/cameras"
    assert wrk("upload")[-5:] == [
        "-s", str(HERE / "post.lua"), "http://127.0.0.1:80/orders", "--", str(2**20),
    ]  # fmt: skip
    assert all((HERE / profile.script).exists() for profile in PROFILES.values())


@pytest.mark.parametrize("tls", [False, True])
def test_templates_are_filled_in(tmp_path: Path, tls: bool):
    if tls and shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    write_templates(tmp_path, tls)
    for name, peer in PEERS.items():
        text = (tmp_path / peer.conf.format(kind="plain")).read_text()
        assert not any(field in text for field in ("{tls}", "{scheme}", "{work}", "{port}")), name
        listens_with_tls = f"{tmp_path}/edge.pem" in text or f"{tmp_path}/both.pem" in text
        assert listens_with_tls == (tls and bool(peer.tls)), name
    if tls:
        ssl.create_default_context().load_cert_chain(tmp_path / "edge.pem", tmp_path / "edge.key")
        made = {
            "BENCH_CERTIFICATE": str(tmp_path / "edge.pem"),
            "BENCH_KEY": str(tmp_path / "edge.key"),
        }
        assert check(HERE / "plain" / "tls.toml", made).warnings == ()


def test_plain_python_is_a_peer_that_is_the_same_from_its_sources(tmp_path: Path):
    options = argparse.Namespace(
        profile="plain", gateway="", port=1, workers=1, peers=PYTHON, peers_dir=str(tmp_path)
    )
    (ours, port), plain = (commands(options, tmp_path)[name] for name in ("gateway", PYTHON))
    assert plain == (["env", f"PYTHONPATH={HERE.parent}", *ours], port)


def test_the_report_measures_every_profile():
    assert set(report.PROFILES) == set(PROFILES)
    assert report.chosen(("nginx", "envoy"), "envoy,caddy") == "envoy"
