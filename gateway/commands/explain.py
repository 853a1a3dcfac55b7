"""`gateway explain METHOD URL`: what would happen to a request. Nothing is sent or counted.

With --admin a running gateway is asked, with the limits, caches and health that it has now.
Without, the configuration is compiled as `gateway check` does it, and nothing is counted yet.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Any

from gateway.commands.catalogue import CommandError
from gateway.commands.options import add_json, print_json
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.why import columns, decided


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help="such as GET")
    parser.add_argument("url", metavar="URL", help="absolute, or a path")
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'Name: value'",
        help="as often as need be",
    )
    parser.add_argument("-d", "--data", metavar="BODY", help="the body, as text")
    parser.add_argument("--client-ip", default="127.0.0.1", metavar="A", help="who asks")
    add_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    headers = tuple(_header(one) for one in options.header)
    if options.admin is None:
        answer = _compiled(options, headers)
    else:
        body = {
            "method": options.method,
            "url": options.url,
            "headers": headers,
            "body": options.data,
            "client_ip": options.client_ip,
        }
        status, answer = ask(options, "POST", "/admin/explain", body)
        if status >= 300:
            raise CommandError(said(answer))
    if options.json:
        print_json(answer)
    else:
        print("\n".join(told(answer)))
    return 0


def told(answer: Mapping[str, Any]) -> list[str]:
    """Return what would happen, in lines."""
    request = answer["request"]
    outcome = "what the upstream answers"
    if answer["status"] is not None:
        words = [str(answer["status"]), answer["code"], answer["reason"]]
        outcome = " ".join(filter(None, words))
    who = answer["client"] or "a client without a name"
    lines = [
        f"{request['method']} {request['path']}",
        f"  would be answered: {outcome}",
        f"  by {who}, from {request['client_ip']}",
        "",
        *decided(answer["decisions"]),
    ]
    if answer["cache_key"]:
        lines += ["", f"cache key: {answer['cache_key']}"]
    if answer["limits"]:
        rows = [
            (one["policy"], f"{one['remaining']} of {one['limit']} left")
            for one in answer["limits"]
        ]
        lines += ["", "limits:", *columns(rows)]
    if answer["endpoints"]:
        each = [
            (one["upstream"], one["url"], one["status"], "eligible" if one["eligible"] else "")
            for one in answer["endpoints"]
        ]
        lines += ["", "endpoints:", *columns(each)]
    if sends := answer["sends"]:
        lines += [
            "",
            f"{sends['endpoint']} would be sent:",
            f"  {sends['method']} {sends['target']} {sends['protocol']}",
        ]
        lines += [f"  {name}: {value}" for name, value in sends["headers"]]
        if sends["body_bytes"]:
            lines.append(f"  ({sends['body_bytes']} bytes of body)")
    return lines


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"{text!r} is no header such as 'Name: value'")
    return name.strip(), value.strip()


def _compiled(options: argparse.Namespace, headers: tuple[tuple[str, str], ...]) -> Any:
    from gateway.config.toml.problems import ConfigErrors
    from gateway.lifetime.registry import Registry
    from gateway.runtime.compose import compose
    from gateway.runtime.reload import load
    from gateway.runtime.services import Services
    from gateway.serving.dry_run import Question, explain
    from gateway.upstream.connections.transport import Transport

    body = None if options.data is None else options.data.encode()
    question = Question(options.method, options.url, headers, body, options.client_ip)

    async def explained() -> Any:
        draft = Registry().draft()
        try:
            snapshot = compose(load(options.config, os.environ), draft, Services(Transport()))
            return await explain(snapshot, question)
        finally:
            draft.release()

    try:
        return asyncio.run(explained())
    except ConfigErrors as errors:
        raise CommandError(f"{errors.problems[0]}; `gateway check` says more") from None
    except ValueError as error:
        raise CommandError(f"{options.url!r} is no URL: {error}") from None
