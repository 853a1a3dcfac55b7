"""`gateway` alone, and `gateway help`: what there is, and the next step for a newcomer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway import __version__
from gateway.commands.catalogue import COMMANDS, GROUPS, parser_of, unknown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="COMMAND", help="this one's options, e.g. `keys create`"
    )


def run(options: argparse.Namespace) -> int:
    words: list[str] = getattr(options, "name", [])
    if not words:
        print(greeting(Path("gateway.toml").exists()))
        return 0
    if words[0] not in COMMANDS:
        print(unknown(words[0]), file=sys.stderr)
        return 2
    parser_of(words[:1]).parse_args([*words, "--help"])
    return 0


def greeting(configured: bool) -> str:
    """Return the overview. `configured`: whether there is a gateway.toml here."""
    lines = [f"gateway {__version__}: an edge API gateway. TOML in, traffic through."]
    width = max(map(len, COMMANDS)) + 2
    for title, group in GROUPS:
        lines += ["", title]
        lines += [f"  {one.name.ljust(width)}{one.summary}" for one in group]
    lines += [
        "",
        "`gateway help COMMAND` has a command's options; `--version` this program's version.",
    ]
    if configured:
        lines += ["", "There is a gateway.toml here. Next: `gateway check`, then `gateway run`."]
    else:
        lines += [
            "",
            "There is no gateway.toml here. Next: `gateway init --upstream URL` makes one.",
        ]
    return "\n".join(lines)
