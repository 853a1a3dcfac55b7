"""Call a running gateway's admin listener: no event loop, no proxies, no redirects."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gateway.admin import ADMIN_HEADER
from gateway.commands.catalogue import CommandError
from gateway.config.toml.parse import loads_json

TIMEOUT = 30.0
MAX_ANSWER = 16 * 1024 * 1024


class AdminError(CommandError):
    """The call came to nothing; the message says why, in words for an operator."""


def call(
    method: str,
    url: str,
    token: str = "",
    *,
    body: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
    trusted: Path | None = None,
) -> tuple[int, dict[str, Any]]:
    """The status and JSON object that `url` answers, whatever the status. `timeout`: seconds
    without anything arriving. `trusted`: the certificate to expect over TLS, whatever its name;
    without it the system's authorities decide.

    Raises AdminError when nobody answers, or something that is no admin listener.
    """
    parts = _split(url)
    host = parts.hostname or ""
    connection: HTTPConnection
    if parts.scheme == "https":
        connection = HTTPSConnection(host, parts.port, timeout=timeout, context=_context(trusted))
    else:
        connection = HTTPConnection(host, parts.port, timeout=timeout)
    headers: dict[str, str | bytes] = {"Accept": "application/json", ADMIN_HEADER: "1"}
    if token:
        if not token.isprintable() or " " in token:  # http.client would say so, and show it
            raise AdminError(
                "the admin token holds letters that cannot be sent, such as a line feed or a space"
            )
        headers["Authorization"] = b"Bearer " + token.encode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, _object(url, response.status, response.read(MAX_ANSWER + 1))
    except TimeoutError:
        raise AdminError(f"no answer from {url} within {timeout:g} seconds") from None
    except ConnectionRefusedError:
        raise AdminError(f"nothing listens at {url}: is the gateway running?") from None
    except OSError as error:
        raise AdminError(f"cannot reach {url}: {error}") from None
    except (InvalidURL, ValueError) as error:
        raise AdminError(f"cannot ask {url}: {error}") from None
    except HTTPException as error:
        raise AdminError(f"no HTTP answer from {url}: {type(error).__name__}") from None
    finally:
        connection.close()


def _context(trusted: Path | None) -> ssl.SSLContext:
    """Raises AdminError for a file that cannot be used."""
    if trusted is None:
        return ssl.create_default_context()
    # The gateway's own certificate, from its configuration: nothing else will do, by any name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(trusted)
    except OSError as error:
        raise AdminError(f"cannot use the certificate {trusted}: {error}") from None
    return context


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port > 0)
        ):
            return parts
    except ValueError:
        pass
    raise AdminError(f'{url!r} is no URL such as "http://127.0.0.1:9901"')


def _object(url: str, status: int, text: bytes) -> dict[str, Any]:
    if len(text) > MAX_ANSWER:
        raise AdminError(f"{url} answered {status} with more than {MAX_ANSWER} bytes")
    try:
        answer = loads_json(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise AdminError(
            f"{url} answered {status}, but no JSON object: is that the admin listener?"
        )
    return answer
