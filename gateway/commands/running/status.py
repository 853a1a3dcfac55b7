"""`gateway status`: what a running gateway is doing, from what its dashboard shows."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from gateway.commands.options import add_json, print_json
from gateway.commands.progress import progress
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.client import AdminError
from gateway.commands.running.status_page import page

EVERY = 2.0
"""Seconds between two pages of `--watch`: oftener nothing new is shown."""
CLEAR = "\x1b[H\x1b[2J\x1b[3J"
"""Clears a terminal, and what has scrolled out of it."""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_json(parser)
    parser.add_argument(
        "--watch", action="store_true", help=f"again every {EVERY:g} seconds, until Ctrl-C"
    )
    parser.add_argument(
        "--ready",
        action="store_true",
        help="only whether it takes requests; exit code 1 if not. Needs no token",
    )


def run(options: argparse.Namespace) -> int:
    if options.watch:
        return _watch(options)
    return _ready(options) if options.ready else _once(options)


def _once(options: argparse.Namespace) -> int:
    with progress("waiting for the gateway's answer"):
        live = _live(options)
    if options.json:
        print_json(live)
    else:
        print("\n".join(page(live)))
    return 0


def _ready(options: argparse.Namespace) -> int:
    status, answer = ask(options, "GET", "/admin/ready")
    if options.json:
        print_json(answer)
    else:
        print("ready" if status < 300 else "not ready")
    return 0 if status < 300 else 1


def _watch(options: argparse.Namespace) -> int:
    """Print one page after another; a gateway that is away for a while is no end."""
    try:
        while True:
            try:
                live = _live(options)
                text = json.dumps(live) if options.json else "\n".join(page(live))
            except AdminError as error:
                text = json.dumps({"error": str(error)}) if options.json else f"gateway: {error}"
            clear = CLEAR if sys.stdout.isatty() and not options.json else ""
            print(f"{clear}{text}", flush=True)
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return 0


def _live(options: argparse.Namespace) -> Mapping[str, Any]:
    """Raises AdminError."""
    status, answer = ask(options, "GET", "/admin/live")
    if status >= 300:
        raise AdminError(said(answer))
    return answer
