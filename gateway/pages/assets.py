"""The files of the pages for browsers, read once, and what may be done with them.

Nothing here is secret and nothing is made from data: pages fetch what they show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page: nothing inline, nothing from elsewhere."""

_MEDIA_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
}
_VENDOR = (
    "preact.umd.js",
    "preact-hooks.umd.js",
    "htm.umd.js",
    "uPlot.iife.min.js",
    "uPlot.min.css",
)
_SHARED = (*_VENDOR, "kit.js", "charts.js", "pages.css", "icon.svg")
PAGES = {
    "dashboard": ("dashboard.html", "dashboard.js", "dashboard-views.js", *_SHARED),
    "portal": ("portal.html", "portal.js", *_SHARED),
}
"""The files of each page; the first is the page itself."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. tag: an entity tag (RFC 9110 section 8.8.3), quotes included."""

    body: bytes
    media_type: str
    tag: str


@cache
def assets(page: str) -> dict[str, Asset]:
    """Return the files of a page by name."""
    return {name: _asset(name) for name in PAGES[page]}


def _asset(name: str) -> Asset:
    folder = files("gateway.pages")
    body = (folder / "vendor" / name if name in _VENDOR else folder / name).read_bytes()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    return Asset(body, _MEDIA_TYPES[name.rpartition(".")[2]], tag)
