"""What `[caching]` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Duration, FieldName, Items, Size, Whole
from gateway.config.toml.sources import Outside
from gateway.store.purges import of_pattern


@table
class KeyConfig:
    """What tells requests apart beside method, scheme, Host and target."""

    headers: tuple[str, ...] = setting(
        Items(FieldName()),
        default=(),
        doc="request headers whose values count, beside those of the origin's Vary",
    )
    query_ignore: tuple[str, ...] = setting(
        default=(), doc='query parameters that do not count; `"utm_*"` takes all that begin so'
    )


class FieldNames(Items):
    """Names of header fields: an array, or one name alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(FieldName(), **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, str) and not isinstance(value, Outside):
            value = [value]
        return super()._deserialize(value, attr, data, **kwargs)

    def json_schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": ["array", "string"], "items": {"type": "string", "minLength": 1}}


def _invalidate(paths: tuple[str, ...]) -> None:
    wrong = {
        index: [message] for index, path in enumerate(paths) if (message := _wrong_pattern(path))
    }
    if wrong:
        raise ValidationError(wrong)


def _wrong_pattern(path: str) -> str:
    if path[0] not in "/*":
        return 'must start with "/" or "*"'
    if "{" in path and of_pattern(path).kind == "pattern":
        return "takes `*` only at its end where it has the path's own values"
    return ""


@table
class CachingConfig:
    """What is stored, and for how long. Times in seconds, sizes in bytes."""

    default_ttl: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long an answer is fresh whose origin says nothing; 0 does not store such",
    )
    statuses: tuple[int, ...] = setting(
        Items(Whole(least=200, most=599)),
        default=(200, 203, 301, 308),
        doc="what `default_ttl` is for; an origin that says something about others is heeded",
    )
    heuristic: bool = setting(
        default=False,
        doc="whether an answer that says nothing but Last-Modified is fresh for a tenth of the time"
        " since, a day at most; goes before `default_ttl`",
    )
    targets: tuple[str, ...] = setting(
        Items(FieldName()),
        default=("CDN-Cache-Control",),
        doc="fields that count in place of the origin's Cache-Control and Expires (RFC 9213); the"
        " first valid one",
    )
    set_cookie: bool = setting(
        default=False,
        doc="whether a `public` answer with Set-Cookie is kept for all, who then share the cookie",
    )
    max_size: int = setting(
        Size(),
        default=256 * 1024**2,
        doc="of what this pipeline, or a route with keys of its own, stores; what is rarely "
        "asked for goes first",
    )
    max_entry: int = setting(Size(), default=1024**2, doc="of one answer")
    store: str = setting(
        Choice("memory", "redis"),
        default="memory",
        doc='`"redis"`: that of `[store]`, shared by workers and gateways, behind a memory of '
        "`max_size`",
    )
    coalesce: bool = setting(
        default=True,
        doc="whether one request asks the origin where many clients want the same, and they wait",
    )
    stale_if_error: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long a stale answer may stand in for a failing origin that does not say",
    )
    stale_while_revalidate: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long a stale answer of an origin that does not say is used at once while that is"
        " asked for a new one",
    )
    private: bool = setting(
        default=False, doc="whether what only one caller may see is kept too, for that caller alone"
    )
    request_directives: bool = setting(
        default=True,
        doc="whether clients' Cache-Control and Pragma count and can make the origin work",
    )
    invalidate: tuple[str, ...] = setting(
        default=(),
        check=_invalidate,
        doc="paths (`*`: anything, `{id}`: the path's own) whose answers a successful write on "
        "this route removes",
    )
    tags: tuple[str, ...] = setting(
        FieldNames(),
        default=("Cache-Tag", "Surrogate-Key"),
        doc="fields in which the origin gives tags to purge by, with commas or spaces between",
    )
    key: KeyConfig = setting(
        default=KeyConfig(), doc="what else tells requests apart: `[caching.key]`"
    )
