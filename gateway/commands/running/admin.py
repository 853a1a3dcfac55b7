"""Find the admin listener of a running gateway, and call it: the options, and the call."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.commands.options import add_config
from gateway.commands.running import client
from gateway.commands.running.client import AdminError
from gateway.config.check.compile import gateway_of
from gateway.config.toml.problems import ConfigErrors

TOKEN = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the variable's name


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--config` and `--admin`. The token is the environment's, else the configuration's."""
    add_config(parser)
    parser.add_argument(
        "--admin",
        metavar="URL",
        help=f"the admin listener; default: as the configuration says. ${TOKEN} is its token",
    )


def ask(
    options: argparse.Namespace, method: str, path: str, body: Mapping[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the status and JSON object that the listener answers. Raises AdminError."""
    url, token, trusted = _listener(options)
    return client.call(method, url.rstrip("/") + path, token, body=body, trusted=trusted)


def said(answer: Mapping[str, Any]) -> str:
    """Return the words of an answer that is a problem (RFC 9457)."""
    words = str(answer.get("detail") or answer.get("title") or "the call was refused")
    return f"{words} Put one into ${TOKEN}." if answer.get("status") == 401 else words


def _listener(options: argparse.Namespace) -> tuple[str, str, Path | None]:
    """Return its URL, the token and the certificate to expect. Raises AdminError."""
    token = os.environ.get(TOKEN, "").strip()
    if options.admin is not None:
        return options.admin, token, None
    try:
        admin = gateway_of(options.config, os.environ).admin
    except ConfigErrors as errors:
        raise AdminError(
            f"the admin listener is not known, use --admin URL: {errors.problems[0]}"
        ) from None
    if admin is None:
        raise AdminError(f"{options.config} has no admin listener")
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    scheme = "http" if admin.tls is None else "https"
    trusted = None if admin.tls is None else options.config.parent / admin.tls.certificate
    return f"{scheme}://{host}:{admin.port}", token or admin.token, trusted
