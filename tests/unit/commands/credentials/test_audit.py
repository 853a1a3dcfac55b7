"""What the command line changes, in the audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.conftest import write
from tests.unit.commands.credentials.shell import Shell, pipeline


class TestAudit:
    def lines(self, file: Path) -> list[dict[str, str]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert {line["timestamp"] for line in lines} == {"2023-11-14T22:13:20.000Z"} and all(
            line["by"] for line in lines
        )
        assert {Path(line["where"]).name for line in lines} == {"keys.toml"}
        return [
            {name: line[name] for name in ("event", "outcome", "key", "client")} for line in lines
        ]

    def test_every_change_is_a_line_without_the_key(self, shell: Shell, tmp_path: Path):
        file = tmp_path / "audit.log"
        where = ("--audit", str(file))
        old = shell.create("acme", *where)
        said = shell("rotate", old, "--json", *where)
        new = json.loads(said)["id"]
        shell("revoke", old, *where)
        shell("revoke", old, *where)
        shell("rotate", old, *where, code=1)
        shell("list")
        outcomes = [("created", old), ("created", new), ("rotated", old), ("revoked", old)]
        assert self.lines(file) == [
            {"event": "key_change", "outcome": outcome, "key": id, "client": "acme"}
            for outcome, id in outcomes
        ]
        assert json.loads(said)["key"][4:] not in file.read_text()

    @pytest.mark.parametrize("log", ["../audit.log", "-"])
    def test_the_log_of_the_configuration(self, shell: Shell, tmp_path: Path, log: str):
        shell.file.write_text("")
        write(tmp_path, pipeline("one", f'file = "../keys.toml" }}\naudit = {{ file = "{log}"'))
        id = shell.create("acme", "--config", str(tmp_path / "gateway.toml"))
        file = tmp_path / "audit.log"
        assert file.exists() is (log != "-")
        assert log == "-" or self.lines(file) == [
            {"event": "key_change", "outcome": "created", "key": id, "client": "acme"}
        ]

    def test_a_log_that_cannot_be_written_keeps_from_changing(self, shell: Shell, tmp_path: Path):
        assert "cannot open the audit log" in shell(
            "create", "--client", "acme", "--audit", str(tmp_path), code=1
        )
        assert not shell.file.exists()
