"""`gateway status`: what a running gateway is doing."""

from __future__ import annotations

import argparse

from gateway.commands.options import print_json
from gateway.commands.running.admin import add_options, ask


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument(
        "--ready",
        action="store_true",
        help="only whether it takes requests; exit code 1 if not. Needs no token",
    )


def run(options: argparse.Namespace) -> int:
    status, answer = ask(options, "GET", "/admin/ready" if options.ready else "/admin/status")
    print_json(answer)
    return 0 if status < 300 else 1
