"""`gateway drain` and `gateway undrain`: whether an endpoint gets new requests.

It survives reloads, not restarts; with several workers all of them heed it.
"""

from __future__ import annotations

import argparse
import sys
from urllib.parse import quote

from gateway.commands.options import add_json, print_json
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.client import AdminError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("upstream", metavar="UPSTREAM", help="the NAME of its [upstream.NAME]")
    parser.add_argument("endpoint", metavar="ENDPOINT", help="its URL, as configured")
    add_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    path = f"/admin/services/{quote(options.upstream, safe='')}/{options.command}"
    status, answer = ask(options, "POST", path, {"url": options.endpoint})
    if status >= 300:
        raise AdminError(said(answer))
    if options.json:
        print_json(answer)
        return 0
    shown, left = f"{answer['service']} {answer['url']}", answer["eligible"]
    if options.command == "undrain" and answer["draining"]:
        print(f"{shown} drains all the same: its configuration says drain = true, or weight = 0")
    elif options.command == "undrain":
        print(f"undrained: {shown}; endpoints that may be picked: {left}")
    else:
        print(f"drained: {shown}; it finishes {answer['in_flight']}; endpoints left: {left}")
    if not left:
        print("no endpoint is left: requests are answered 503", file=sys.stderr)
    return 0
