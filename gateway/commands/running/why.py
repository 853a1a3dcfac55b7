"""`gateway why REQUEST_ID`: why a request was refused, failed or slow; without an id, the last of
them.

Exit codes: 0 shown, 1 not known, or the admin listener cannot be reached.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from gateway.commands.options import add_json, print_json
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.client import AdminError

FILTERS = ("client", "route", "reason")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id",
        nargs="?",
        metavar="REQUEST_ID",
        help="of X-Request-ID, or request_id in a body or the log; without one, the last requests",
    )
    add_options(parser)
    for name in FILTERS:
        parser.add_argument(f"--{name}", metavar="NAME", help=f"of the last, those of this {name}")
    parser.add_argument(
        "--shadow", action="store_true", help="of the last, those that only a shadow let pass"
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="of the last; 20")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    if options.id is None:
        wanted = {name: value for name in FILTERS if (value := getattr(options, name)) is not None}
        wanted |= {"shadow": "1"} if options.shadow else {}
        status, answer = ask(
            options, "GET", f"/admin/why?{urlencode({'limit': options.limit, **wanted})}"
        )
    else:
        status, answer = ask(options, "GET", f"/admin/why/{quote(options.id, safe='')}")
    if status >= 300:
        raise AdminError(said(answer))
    if options.json:
        print_json(answer)
    elif options.id is None:
        print("\n".join(listed(answer["requests"])))
    else:
        print("\n".join(told(answer)))
    return 0


def told(answer: Mapping[str, Any]) -> list[str]:
    """Return a request's decisions in lines."""
    request = answer["request"]
    who = answer["client"] or "a client without a name"
    words = [str(answer["status"]), answer["code"], answer["reason"]]
    lines = [
        f"{request['method']} {request['path']}",
        f"  {' '.join(filter(None, words))}, after {answer['duration_ms']} ms, at {answer['time']}",
        f"  by {who}, from {request['client_ip']}; request {request['id']}",
    ]
    if answer["detail"]:
        lines.append(f"  the client was told: {answer['detail']}")
    lines += ["", *decided(answer["decisions"])]
    if answer["attempts"]:
        lines += ["", f"attempts at {answer['upstream']}:"]
        rows = [(one["endpoint"], f"{one['ms']} ms", one["why"]) for one in answer["attempts"]]
        lines += columns(rows)
    return lines


def decided(decisions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return decisions in columns: hook, outcome, where it is configured, and why."""
    return columns(
        [
            (one["hook"], one["outcome"], one["at"] or "", (one["why"] or "").replace("\n", " "))
            for one in decisions
        ]
    )


def listed(requests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return requests in columns, the newest first."""
    if not requests:
        return ["no request was refused, failed or slow lately"]
    return columns(
        [
            (
                one["time"],
                str(one["status"]),
                one["reason"] or "",
                one["client"] or "-",
                f"{one['request']['method']} {one['request']['path']}",
                one["request"]["id"],
            )
            for one in requests
        ]
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with their cells below one another; the last one is as long as it is."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join(["", *cells, row[-1]]).rstrip())
    return lines
