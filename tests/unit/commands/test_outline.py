"""The command line as data has every command, action and option."""

from __future__ import annotations

from gateway.commands.catalogue import COMMANDS
from gateway.commands.outline import Argument, Outline, outline

ROOT = outline()


def find(*words: str) -> Outline:
    return next(one for one in ROOT.walk() if one.words == words)


def test_every_command_is_there_with_its_summary():
    assert {one.words[0]: one.summary for one in ROOT.actions} == {
        name: command.summary for name, command in COMMANDS.items()
    }


def test_options_say_what_they_take():
    options = {one.flags: one for one in find("keys", "create").arguments}
    assert options["--client",].required and not options["--tier",].required
    assert options["--file",].is_file and not options["--client",].is_file
    assert find("check").arguments[-1] == Argument(("--json",), "", "one JSON object, for programs")


def test_positional_arguments_have_no_flags():
    [shell] = find("completion").arguments
    assert (shell.flags, shell.choices) == ((), ("bash", "zsh", "fish"))
    assert find("keys", "revoke").arguments[0].value == "ID"


def test_everything_has_a_help():
    without = [
        (one.words, argument.flags or argument.value)
        for one in ROOT.walk()
        for argument in one.arguments
        if not argument.help
    ]
    assert without == []


def test_usage_is_one_line():
    assert find("users", "passwd").usage.startswith("gateway users passwd [-h] ")
