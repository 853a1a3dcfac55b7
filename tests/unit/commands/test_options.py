"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.commands.options import add_config, add_json, print_json


def test_the_usual_file_is_the_default():
    parser = argparse.ArgumentParser()
    add_config(parser)
    add_json(parser)
    options = parser.parse_args([])
    assert (options.config, options.json) == (Path("gateway.toml"), False)
    assert parser.parse_args(["--config", "other.toml", "--json"]).config == Path("other.toml")


def test_json_is_for_people_too(capsys: pytest.CaptureFixture[str]):
    print_json({"ok": True, "word": "é"})
    assert capsys.readouterr().out == '{\n  "ok": true,\n  "word": "é"\n}\n'
