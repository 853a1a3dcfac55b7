"""The commands with their options as data: for completion and for docs/cli.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.commands.catalogue import parser_of


@dataclass(frozen=True, slots=True)
class Argument:
    """One option, or with no flags a positional argument.

    value: what its value is called, "" for a flag. choices: the words it may be. is_file: a path.
    """

    flags: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...] = ()
    is_file: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """One command or action; words: as typed, without `gateway`."""

    words: tuple[str, ...]
    summary: str
    description: str
    usage: str
    arguments: tuple[Argument, ...]
    actions: tuple[Outline, ...] = ()

    def walk(self) -> Iterator[Outline]:
        """Yield this one and all below it."""
        yield self
        for one in self.actions:
            yield from one.walk()


def outline() -> Outline:
    """Return the whole command line."""
    return _outline(parser_of(), (), "")


def _outline(parser: argparse.ArgumentParser, words: tuple[str, ...], summary: str) -> Outline:
    arguments: list[Argument] = []
    actions: list[Outline] = []
    for one in parser._actions:  # argparse has no public way to ask for them
        if isinstance(one, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in one._choices_actions}
            actions = [
                _outline(below, (*words, name), helps.get(name, ""))
                for name, below in one.choices.items()
            ]
        elif not isinstance(one, argparse._HelpAction):
            arguments.append(_argument(one))
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    description = parser.description or ""
    return Outline(words, summary, description, usage, tuple(arguments), tuple(actions))


def _argument(one: argparse.Action) -> Argument:
    choices = tuple(map(str, one.choices or ()))
    takes = one.nargs != 0
    name = one.metavar if isinstance(one.metavar, str) else one.dest.upper()
    value = "|".join(choices) if choices else name
    return Argument(
        tuple(one.option_strings),
        value if takes else "",
        one.help or "",
        choices,
        one.type is Path,
        bool(one.required) and bool(one.option_strings),
    )
