"""Check an upstream's `protocol` against its endpoints and health checks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from gateway.config.tables.upstream import UpstreamConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.read import Document


def check_protocol(document: Document, path: tuple[str, str], config: UpstreamConfig) -> None:
    """Report what does not go together."""
    protocol, place = config.protocol, (*path, "protocol")
    if protocol == "http1":
        if config.health is not None and config.health.type == "grpc":
            message = 'health.type: "grpc" needs HTTP/2'
            document.error((*path, "health", "type"), message, 'protocol = "h2c", or "h2"')
        return
    if find_spec("ngh2") is None:
        document.error(
            place,
            f"protocol: {protocol!r} needs the extra http2",
            "pip install 'edge-gateway[http2]'",
        )
    urls = [*_urls(document, path, config)]
    secure = [url.lower().startswith("https:") for _, url in urls]
    if protocol == "auto":
        if urls and not any(secure) and config.discover is None:
            document.warning(
                place,
                'protocol: "auto" has no effect: TLS chooses (ALPN), and none of its URLs says '
                "https",
                'use "h2c" for HTTP/2 in clear text',
            )
        return
    for (where, url), over_tls in zip(urls, secure, strict=True):
        if over_tls is not (protocol == "h2"):
            message = (
                f'protocol: "h2" is HTTP/2 over TLS, and {url!r} has none'
                if protocol == "h2"
                else f'protocol: "h2c" is HTTP/2 in clear text, and {url!r} is not'
            )
            document.error(where, message, f'use "{"h2c" if protocol == "h2" else "h2"}"')
            return


def _urls(
    document: Document, path: tuple[str, str], config: UpstreamConfig
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the URL of each endpoint with its place."""
    first = 1 if config.url else 0
    if config.url:
        yield (*path, "url"), config.url
    for index, endpoint in enumerate(config.endpoints[first:]):
        yield (*path, "endpoints", index, "url"), endpoint.url
