"""The commands as an operator types them: what they print, and how they exit."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import described_version
from gateway.cli import main
from tests.certificates import Authority
from tests.flow.conftest import PLAIN, write
from tests.process import ROOT, Process
from tests.unit.config.test_mistakes import GATEWAY, PIPELINE, TOLD, UPSTREAMS
from tests.unit.config.tree import Tree

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:1"\n'


def test_check_reports_all_of_ten_mistakes_in_three_files(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("gateway.toml", GATEWAY)
    tree.write("upstreams.toml", UPSTREAMS)
    tree.write("pipelines/partner.toml", PIPELINE + '\n    [cors]\n    origins = ["*"]\n')
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # What the real middlewares say may grow with them; where they say it may not.
    assert [line.split(" error: ")[0] for line in ran.stdout.splitlines()] == [
        line.split(" error: ")[0] for line in TOLD.strip().splitlines()
    ]
    assert ran.stderr.strip() == "10 errors, 0 warnings"
    assert ran.returncode == 1


def test_check_says_what_would_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 'response = ["logging"]\n' + PLAIN, UPSTREAM)
    assert main(["check", "--config", str(tmp_path / "gateway.toml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "test.toml:1:13: warning: " in lines[0] and "logging" in lines[0]
    assert lines[-1].startswith("ok: 1 pipeline, 1 route, 1 upstream, 1 warning, configuration ")


def test_check_finds_what_only_a_middleware_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = (
        'request = ["auth"]\n\n[auth]\nmethods = ["api_key"]\napi_key = { file = "none.toml" }\n'
        + PLAIN
    )
    write(tmp_path, pipeline, UPSTREAM)
    assert main(["check", "--config", str(tmp_path / "gateway.toml")]) == 1
    told = capsys.readouterr().out
    assert "test.toml:5:13: error: auth: " in told and "gateway keys create" in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"gateway {described_version()}"


def test_run_with_a_bad_configuration_says_why_and_exits_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, PLAIN, "[upstream.other]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "--config", str(tmp_path / "gateway.toml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "test.toml:3:1: error: route.upstream: no upstream is called 'origin'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_run_where_the_port_is_taken_exits_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        write(tmp_path, PLAIN, UPSTREAM, f"[listen]\nport = {taken.getsockname()[1]}\n")
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", "run", "--config", str(tmp_path / "gateway.toml")],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 1
    assert "gateway: cannot start: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_keys_are_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.toml")
    assert main(["keys", "create", "--client", "acme", "--file", file]) == 0
    assert "bec_" in capsys.readouterr().out
    assert main(["keys", "list", "--file", file]) == 0
    assert "acme" in capsys.readouterr().out


async def test_reload_and_status_talk_to_a_running_gateway(tmp_path: Path) -> None:
    write(tmp_path, PLAIN, UPSTREAM)
    async with Process(tmp_path / "gateway.toml") as gateway:
        admin = f"http://127.0.0.1:{gateway.admin_port}"

        def command(*arguments: str) -> subprocess.CompletedProcess[str]:
            whole = [
                sys.executable,
                "-m",
                "gateway",
                *arguments,
                "--config",
                str(tmp_path / "gateway.toml"),
            ]
            return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)

        status = command("status", "--json", "--admin", admin)
        assert status.returncode == 0
        assert json.loads(status.stdout)["status"]["pid"] == gateway.pid
        shown = command("status", "--admin", admin).stdout
        assert f"127.0.0.1:{gateway.port}\n" in shown and "http://127.0.0.1:1" in shown
        ready = command("status", "--ready", "--json", "--admin", admin)
        assert (ready.returncode, json.loads(ready.stdout)) == (0, {"ready": True})
        (tmp_path / "upstreams.toml").write_text("[upstream.origin]\nurl = 5\n")
        refused = command("reload", "--admin", admin)
        assert refused.returncode == 1 and "upstreams.toml" in refused.stdout
        (tmp_path / "upstreams.toml").write_text(UPSTREAM + 'balance = "random"\n')
        taken = command("reload", "--admin", admin)
        assert taken.returncode == 0 and "upstream origin changed: balance" in taken.stdout
        # Without --admin the address is gateway.toml's, even while the rest of the configuration is
        # broken.
        write(tmp_path, "nonsense = 1\n", UPSTREAM, f"[admin]\nport = {gateway.admin_port}\n")
        assert command("status").returncode == 0
        assert command("reload").returncode == 1


def test_status_without_a_gateway_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    assert main(["status", "--admin", f"http://127.0.0.1:{unused_tcp_port}"]) == 1
    assert "gateway: " in capsys.readouterr().err
    assert main(["status", "--ready", "--admin", f"http://127.0.0.1:{unused_tcp_port}"]) == 1
    assert main(["status", "--config", str(tmp_path / "gateway.toml")]) == 1
    assert "--admin" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["keys", "create", "--help"], ["--version"]])
def test_a_reader_that_is_gone_already_is_no_error(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        stdout=writing, stderr=subprocess.PIPE, check=False, timeout=30,
    )  # fmt: skip
    os.close(writing)
    # From 3.12 on argparse itself passes over what it cannot print.
    assert ran.returncode in (0, 141)
    assert ran.stderr == b""


def test_a_reader_that_has_enough_is_no_error():
    """`gateway schema | head -1`: the reader goes while most of it is still to be written."""
    command = [sys.executable, "-m", "gateway", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


async def test_status_over_tls_expects_the_configured_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("mine", "gateway.test")
    other = authority.issue("other", "gateway.test")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def configured(certificate: Path) -> str:
        key = certificate.with_suffix(".key")
        tls = f'[admin.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        return f"[listen]\nport = 0\n[admin]\nport = {port}\n{tls}"

    write(tmp_path, PLAIN, UPSTREAM, configured(mine))

    def status() -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "gateway",
            "status",
            "--json",
            "--config",
            str(tmp_path / "gateway.toml"),
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    async with Process(tmp_path / "gateway.toml") as gateway:
        found = await asyncio.to_thread(status)
        assert found.returncode == 0
        assert json.loads(found.stdout)["status"]["pid"] == gateway.pid
        write(tmp_path, PLAIN, UPSTREAM, configured(other))
        found = await asyncio.to_thread(status)
        assert found.returncode == 1 and "certificate verify failed" in found.stderr
        write(tmp_path, PLAIN, UPSTREAM, configured(tmp_path / "none.pem"))
        found = await asyncio.to_thread(status)
        assert found.returncode == 1 and "cannot use the certificate" in found.stderr
