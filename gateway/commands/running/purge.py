"""`gateway purge`: take answers out of the caches of a running gateway."""

from __future__ import annotations

import argparse
from typing import Any

from gateway.commands.options import add_json, print_json
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.client import AdminError

KINDS = ("url", "prefix", "tag")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_json(parser)
    for kind, metavar, meaning in (
        ("url", "URL", "https://host/path?query, or /path?query on any host"),
        ("prefix", "PREFIX", "what URLs or paths begin with"),
        ("tag", "TAG", "a tag that the origin gave them"),
    ):
        parser.add_argument(
            f"--{kind}", action="append", metavar=metavar, help=f"{meaning}; may be repeated"
        )
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument(
        "--soft", action="store_true", help="what is purged stays, and is stale from now on"
    )


def run(options: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        kind: names for kind in KINDS if (names := getattr(options, kind)) is not None
    }
    body |= {key: True for key in ("all", "soft") if getattr(options, key)}
    status, answer = ask(options, "POST", "/admin/purge", body)
    if status >= 300:
        raise AdminError(said(answer))
    if options.json:
        print_json(answer)
        return 0
    done = "stale from now on" if answer["soft"] else "purged"
    for one in answer["purged"]:
        print(f"{done}: {one['kind']} {one['value']}".rstrip())
    return 0
