"""The command line: parse arguments, run a command, return its exit code."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__
from gateway.lifetime.signals import Signals, hold_standard_descriptors

READER_GONE = 128 + signal.SIGPIPE
"""The exit code of programs that SIGPIPE ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    signals = Signals()
    if given[:1] == ["run"]:
        # Before anything else is imported or opened: signals may come at any time.
        hold_standard_descriptors()
        signals.install()
    try:
        try:
            options = _parser().parse_args(given, argparse.Namespace(signals=signals))
            code: int = options.run(options)
        finally:
            if sys.stdout is not None:  # None where it was closed
                sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would write the buffer again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return code


def _parser() -> argparse.ArgumentParser:
    from gateway.commands import keys, tokens, users

    parser = argparse.ArgumentParser(
        prog="gateway", description="An edge API gateway: TOML in, traffic through."
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="serve; TERM drains and stops, HUP reloads, USR1 reopens log files"
    )
    _config(run)
    run.set_defaults(run=_run)

    check = commands.add_parser(
        "check", help="compile everything as a reload would; print every error and lint"
    )
    _config(check)
    check.set_defaults(run=_check)

    keys.add_parser(commands)
    tokens.add_parser(commands)
    users.add_parser(commands)

    for name, help, function in (
        ("reload", "reload a running gateway through its admin listener", _reload),
        ("status", "what a running gateway is doing", _status),
    ):
        command = commands.add_parser(name, help=help)
        _config(command)
        command.add_argument(
            "--admin", metavar="URL", help="the admin listener; default: as the configuration says"
        )
        command.set_defaults(run=function)
        if name == "status":
            command.add_argument(
                "--ready",
                action="store_true",
                help="only whether it takes requests; exit code 1 if not. Needs no token",
            )

    schema = commands.add_parser("schema", help="JSON Schema of every TOML file, for editors")
    schema.add_argument(
        "name", nargs="?", help="one file's schema alone: gateway, upstreams or pipeline"
    )
    schema.set_defaults(run=_schema)
    return parser


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("gateway.toml"),
        metavar="FILE",
        help="default: gateway.toml",
    )


def _run(options: argparse.Namespace) -> int:
    from gateway.commands.run import run

    return run(options.config, options.signals)


def _check(options: argparse.Namespace) -> int:
    from gateway.config.toml.problems import ConfigErrors
    from gateway.runtime.check import check

    try:
        loaded = check(options.config, os.environ)
    except ConfigErrors as errors:
        for problem in errors.problems:
            print(problem)
        count = len(errors.errors)
        print(
            f"{count} error{'s' if count != 1 else ''}, {len(errors.problems) - count} warnings",
            file=sys.stderr,
        )
        return 1
    for problem in loaded.warnings:
        print(problem)
    routes = sum(len(pipeline.routes) for pipeline in loaded.pipelines)
    print(
        f"ok: {len(loaded.pipelines)} pipelines, {routes} routes, {len(loaded.upstreams)} "
        f"upstreams, "
        f"{len(loaded.warnings)} warnings, configuration {loaded.hash}"
    )
    return 0


def _reload(options: argparse.Namespace) -> int:
    return _ask(options, "POST", "/admin/reload")


def _status(options: argparse.Namespace) -> int:
    return _ask(options, "GET", "/admin/ready" if options.ready else "/admin/status")


def _ask(options: argparse.Namespace, method: str, path: str) -> int:
    from gateway.commands import client
    from gateway.config.check.compile import gateway_of
    from gateway.config.toml.problems import ConfigErrors

    trusted: Path | None = None
    url, token = options.admin, os.environ.get("GATEWAY_ADMIN_TOKEN", "").strip()
    if url is None:
        try:
            admin = gateway_of(options.config, os.environ).admin
        except ConfigErrors as errors:
            print(
                f"gateway: the admin listener is not known, use --admin URL: {errors.problems[0]}",
                file=sys.stderr,
            )
            return 1
        if admin is None:
            print(f"gateway: {options.config} has no admin listener", file=sys.stderr)
            return 1
        host = f"[{admin.host}]" if ":" in admin.host else admin.host
        scheme = "http" if admin.tls is None else "https"
        url, token = f"{scheme}://{host}:{admin.port}", token or admin.token
        if admin.tls is not None:
            trusted = options.config.parent / admin.tls.certificate
    try:
        status, answer = client.call(method, url.rstrip("/") + path, token, trusted=trusted)
    except client.AdminError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2))
    return 0 if status < 300 else 1


def _schema(options: argparse.Namespace) -> int:
    from gateway import middlewares
    from gateway.config.tables.describe import json_schemas
    from gateway.runtime.reload import schema_for

    schemas = json_schemas(schema_for, middlewares.names())
    if options.name is not None:
        if options.name not in schemas:
            print(
                f"gateway: no schema {options.name!r}; there are {', '.join(schemas)}",
                file=sys.stderr,
            )
            return 1
        print(json.dumps(schemas[options.name], indent=2))
        return 0
    print(json.dumps(schemas, indent=2))
    return 0
