"""`gateway keys` as tests call it."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from gateway.commands.credentials import keys

NOW = 1_700_000_000.0


SECRET = re.compile(r"bec_[0-9a-f]{64}")


class Shell:
    """The command line, in a directory of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], file: Path) -> None:
        self.capsys = capsys
        self.file = file
        self.now = NOW
        self.parser = argparse.ArgumentParser("gateway")
        keys.arguments(self.parser)

    def __call__(self, *words: str, code: int = 0) -> str:
        """What `gateway keys ...` prints: on stdout, or on stderr when it fails."""
        args = self.parser.parse_args(words)
        assert keys.run(args, now=lambda: self.now) == code
        out, err = self.capsys.readouterr()
        if code:
            assert out == ""
            return err
        assert err == ""
        return out

    def json(self, *words: str) -> object:
        return json.loads(self(*words, "--json"))

    def create(self, client: str = "acme", *words: str) -> str:
        made = self.json("create", "--client", client, *words)
        assert isinstance(made, dict)
        return str(made["id"])


def pipeline(name: str, auth: str) -> str:
    return f"""
name = "{name}"
request = ["auth"]
[auth]
methods = ["api_key"]
api_key = {{ {auth} }}
[[route]]
path = "/{name}"
builtin = "info"
"""
