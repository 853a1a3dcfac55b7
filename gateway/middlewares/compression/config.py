"""`[compression]`: which answers are compressed, and how."""

from __future__ import annotations

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Items, Size, Whole

TYPES = (
    "text/*",
    "+json",
    "+xml",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/x-javascript",
    "application/x-ndjson",
    "application/yaml",
    "application/graphql",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
)


@table
class CompressionConfig:
    """Which answers are compressed, and how."""

    algorithms: tuple[str, ...] = setting(
        Items(Choice("zstd", "br", "gzip")),
        default=("zstd", "br", "gzip"),
        doc="the server's preference among what the client likes equally",
    )
    minimum: int = setting(Size(), default=1024, doc="shorter answers go out as they are")
    types: tuple[str, ...] = setting(
        default=TYPES, doc='`"type/subtype"`, `"type/*"` or a `"+suffix"`'
    )
    gzip_level: int = setting(Whole(least=0, most=3), default=1, doc="more is smaller and slower")
    br_quality: int = setting(Whole(least=0, most=5), default=4, doc="likewise")
    zstd_level: int = setting(Whole(least=1, most=9), default=3, doc="likewise")
    events: bool = setting(default=False, doc="whether `text/event-stream` is compressed too")
    strong_etags: str = setting(
        Choice("weaken", "uncoded"),
        default="weaken",
        doc="what becomes of an answer with a strong ETag: coded with a weak one, or uncoded "
        "with its own, "
        "for `If-Match` and ranges",
    )
