"""The commands there are. A new one is a module, and a line here.

A module has `arguments(parser)`, which declares its options, and `run(options)`, which does the
work and returns the exit code. It is imported when its command is asked for. The greeting,
completion and docs/cli.md are made of this table and of what the modules declare.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class CommandError(Exception):
    """A command cannot do its work; the message says why, in words for an operator. Exit code 1."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `module`: below gateway.commands, where it is not the name."""

    name: str
    summary: str
    module: str = ""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its options."""
        self._load().arguments(parser)

    @property
    def run(self) -> Callable[[argparse.Namespace], int]:
        """What does the work and returns the exit code."""
        found: Callable[[argparse.Namespace], int] = self._load().run
        return found

    def _load(self) -> Any:
        return import_module(f"gateway.commands.{self.module or self.name}")


GROUPS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    (
        "A configuration",
        (
            Command("init", "a first configuration, which check accepts; never overwrites"),
            Command("check", "compile everything as a reload would; print every error and lint"),
            Command("explain", "what would happen to a request, without sending it"),
            Command("schema", "JSON Schema of every TOML file, for editors"),
            Command(
                "new-middleware",
                "a package: a middleware of your own, its table and its tests",
                "new_middleware",
            ),
        ),
    ),
    (
        "A gateway",
        (
            Command("run", "serve; TERM drains and stops, HUP reloads, USR1 reopens log files"),
            Command("status", "what a running gateway is doing", "running.status"),
            Command(
                "reload", "take the configuration anew, or say what is wrong", "running.reload"
            ),
            Command("drain", "no new requests for an endpoint, until undrained", "running.drain"),
            Command("undrain", "requests for a drained endpoint again", "running.drain"),
            Command(
                "purge", "take answers out of the caches, by URL, prefix or tag", "running.purge"
            ),
            Command("why", "why a request was refused, failed or slow", "running.why"),
        ),
    ),
    (
        "Credentials",
        (
            Command("keys", "create, list, rotate and revoke API keys", "credentials.keys"),
            Command("users", "users who log in with a password", "credentials.users"),
            Command("tokens", "revoke tokens, and list what is revoked", "credentials.tokens"),
        ),
    ),
    (
        "The command line",
        (
            Command("help", "what there is, or the options of one command"),
            Command("completion", "completion for bash, zsh or fish"),
        ),
    ),
)
"""Every command, by what it is about, in the order of the greeting."""

COMMANDS: dict[str, Command] = {one.name: one for _, group in GROUPS for one in group}


def parser_of(names: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the options of these commands; `()`: of all."""
    from gateway import described_version

    parser = argparse.ArgumentParser(
        prog="gateway", description="An edge API gateway: TOML in, traffic through."
    )
    parser.add_argument("--version", action="version", version=f"gateway {described_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        one = commands.add_parser(command.name, help=command.summary)
        if not names or command.name in names:
            command.arguments(one)
            one.set_defaults(run=command.run, command=command.name)
    return parser


def unknown(name: str) -> str:
    """Return the message for a command that does not exist."""
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`gateway help` lists them"
    return f"gateway: there is no command {name!r}; {hint}"
