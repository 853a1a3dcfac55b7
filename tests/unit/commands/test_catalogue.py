"""Every command is a module that declares its options and can be asked for by name."""

from __future__ import annotations

import pytest

from gateway.commands.catalogue import COMMANDS, parser_of, unknown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name: str):
    command = COMMANDS[name]
    assert callable(command.run)
    shown = parser_of((name,)).format_help()
    assert command.summary in " ".join(shown.split())


def test_only_what_is_asked_for_is_imported(monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    monkeypatch.setattr("gateway.commands.catalogue.import_module", lambda name: seen.append(name))
    with pytest.raises(AttributeError):
        parser_of(("schema",))
    assert seen == ["gateway.commands.schema"]


def test_the_parser_of_all_has_every_option():
    options = parser_of().parse_args(["keys", "create", "--client", "acme"])
    assert options.run is COMMANDS["keys"].run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stauts", "there is no command 'stauts'; did you mean 'status'?"),
        ("xyzzy", "there is no command 'xyzzy'; `gateway help` lists them"),
    ],
)
def test_unknown_commands(name: str, expected: str):
    assert unknown(name) == f"gateway: {expected}"
