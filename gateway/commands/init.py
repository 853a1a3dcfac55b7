"""`gateway init`: the first configuration, which `gateway check` accepts. Never overwrites."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from marshmallow import ValidationError

from gateway.commands.catalogue import CommandError
from gateway.config.tables.schema import EndpointUrl
from gateway.config.toml.problems import ConfigErrors
from gateway.credentials.files import is_shared
from gateway.runtime.check import check

GATEWAY = """\
# The gateway itself. Every key, with its default: `gateway schema gateway`.
include = ["upstreams.toml", "pipelines/*.toml"]

[listen]                       # where clients come in
host = "127.0.0.1"             # "0.0.0.0" for clients of other machines
port = 8080

[admin]                        # for operators; keep it away from clients
host = "127.0.0.1"
port = 9901
# token = "${GATEWAY_ADMIN_TOKEN}"
"""
UPSTREAMS = """\
# Who answers. One table a pool.
[upstream.app]
endpoints = [
  { url = "<URL>" },
]
timeouts = { connect = "5s", read = "30s", write = "30s" }
passive_health = { max_fails = 3, fail_timeout = "30s" }
# health = { path = "/health", interval = "30s" }      # ask it whether it is well
"""
PIPELINE = """\
# What partners' requests cross. The order of a list is the order of execution.
request  = ["rate_limit.ip", "auth", "rate_limit", <VALIDATION>"logging"]
response = ["logging", "metrics"]
error    = ["error_handler", "logging", "metrics"]

[rate_limit.ip]                # before the key is looked at: strangers pay for their guesses
key = "ip"
limit = 600
window = "1m"

[auth]
methods = ["api_key"]
api_key = { header = "X-API-Key", file = "../keys.toml" }

[rate_limit]                   # of each client
key = "client"
limit = 100
window = "1m"

[logging]
file = "-"                     # standard output; secrets are masked

[[route]]                      # for load balancers: open, and nothing is counted
path = "/health"
builtin = "health"
request = []
"""
ROUTE = """
[[route]]
name = "app"
prefix = "/"                   # everything else
upstream = "app"
# strip_prefix = "/api"        # what the upstream does not have in its paths
# timeout = "60s"
"""
OPENAPI = """
[[openapi]]                    # a route for each operation, which holds requests to the document
file = "<FILE>"
upstream = "app"
"""
KEYS = """\
# API keys, hashed. `gateway keys create` writes here.
"""
DEFAULT_URL = "http://127.0.0.1:3001"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: here"
    )
    parser.add_argument(
        "--upstream",
        type=_url,
        default=DEFAULT_URL,
        metavar="URL",
        help=f"the service that answers (default: {DEFAULT_URL})",
    )
    parser.add_argument(
        "--openapi", type=Path, metavar="FILE", help="its OpenAPI document: a route an operation"
    )


def run(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    if options.openapi is not None and not options.openapi.is_file():
        raise CommandError(f"there is no file {options.openapi}")
    files = contents(directory, options.upstream, options.openapi)
    if there := [name for name in files if (directory / name).exists()]:
        raise CommandError(f"there is {directory / there[0]} already; nothing was written")
    made = [_write(directory / name, text) for name, text in files.items()]
    try:
        check(directory / "gateway.toml", os.environ)
    except ConfigErrors as errors:
        for path in made:
            path.unlink()
        raise CommandError(
            "\n".join(("it would not be accepted:", *map(str, errors.problems)))
        ) from None
    print("Made:", *(f"  {path}" for path in made), "", sep="\n")
    print("Next:" if directory == Path() else f"Next, in {directory}:")
    for command, why in NEXT:
        print(f"  {command.ljust(38)}{why}")
    return 0


NEXT = (
    ("gateway keys create --client partner", "a key for a partner, shown this once"),
    ("gateway check", "whatever is wrong, with file, line and a hint"),
    ("gateway run", "serves on http://127.0.0.1:8080 until Ctrl-C"),
)


def contents(directory: Path, url: str, openapi: Path | None) -> Mapping[str, str]:
    """Return the files and what is in them."""
    pipeline = PIPELINE.replace("<VALIDATION>", "" if openapi is None else '"validation", ')
    if openapi is None:
        pipeline += ROUTE
    else:
        file = os.path.relpath(openapi, directory / "pipelines")
        pipeline += OPENAPI.replace("<FILE>", file.replace("\\", "\\\\").replace('"', '\\"'))
    return {
        "gateway.toml": GATEWAY,
        "upstreams.toml": UPSTREAMS.replace("<URL>", url),
        "pipelines/partner.toml": pipeline,
        "keys.toml": KEYS,
    }


def _write(path: Path, text: str) -> Path:
    """Write a file that must not exist. Raises CommandError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        secret = 0o640 if is_shared(path.parent) else 0o600
        mode = secret if path.name == "keys.toml" else 0o644
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _url(text: str) -> str:
    try:
        return str(EndpointUrl().deserialize(text))
    except ValidationError as error:
        raise argparse.ArgumentTypeError(" ".join(map(str, error.messages))) from None
