"""Fields of TOML tables: durations, sizes, choices, secrets; and Table, a schema written by hand.

Tables of ours are declared with `declare.table`; operators' middlewares may bring a `Table`
subclass with marshmallow fields and the dataclass it `makes`. A key that is left out is not passed,
so its default lives in the dataclass alone.
Values are never coerced: "80" is no port and "yes" is no boolean. Only what the environment
supplies can be nothing but a string in TOML: `port = "${PORT}"` is a port when the variable spells
one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar
from urllib.parse import urlsplit

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate

from gateway.config.hosts import a_labels, host_name
from gateway.config.toml.sources import FileTable, Outside, SecretText, plain

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|kB|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}


TableClass = type[Any]
"""A class declared with `declare.table`, or a Table of its own."""


class Table(Schema):
    """A TOML table. Unknown keys are errors; a valid table loads as the frozen dataclass it
    `makes`."""

    makes: ClassVar[type[Any]]

    class Meta:
        unknown = RAISE

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return self.makes(**{key: plain(value) for key, value in data.items()})


class Boolean(fields.Field[bool]):
    """`true` or `false`."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> bool:
        value = _scalar(value)
        if not isinstance(value, bool):
            raise ValidationError(f"must be true or false, not {_shown(value)}")
        return value


class Text(fields.String):
    """A string, or `{ file = "path" }` for what a file holds; empty only when `empty=True`."""

    def __init__(self, *, empty: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.empty = empty

    def deserialize(
        self,
        value: Any,
        attr: str | None = None,
        data: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        return plain(super().deserialize(value, attr, data, **kwargs))

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, FileTable):
            value = value.contents()
        if not isinstance(value, str):
            raise ValidationError(f"must be a string, not {_shown(value)}")
        if not value and not self.empty:
            raise ValidationError("must not be empty")
        return value


class Secret(Text):
    """A string that no message and no `repr` shows; usually `"${NAME}"` or `{ file = "path" }`."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, str | FileTable):
            raise ValidationError('must be a string or { file = "path" }')
        if isinstance(value, FileTable):
            value = value.contents(secret=True)
        return SecretText(super()._deserialize(value, attr, data, **kwargs), "***")


class Whole(fields.Integer):
    """A whole number within `[least, most]`."""

    def __init__(self, *, least: int | None = None, most: int | None = None, **kwargs: Any) -> None:
        super().__init__(
            strict=True, validate=validate.Range(least, most, error=_range(least, most)), **kwargs
        )

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = _scalar(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"must be a whole number, not {_shown(value)}")
        return value


class Number(fields.Float):
    """A number within `[least, most]`."""

    def __init__(
        self, *, least: float | None = None, most: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(validate=validate.Range(least, most, error=_range(least, most)), **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = _scalar(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ValidationError(f"must be a number, not {_shown(value)}")
        return float(value)


class Duration(fields.Field[float]):
    """Seconds as a float, from "30s", "500ms", "5m", "1h", "7d" or a number of seconds.

    It must be more than 0 unless `zero=True`.
    """

    def __init__(self, *, zero: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.zero = zero

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> float:
        seconds = parse_duration(value)
        if seconds == 0 and not self.zero:
            raise ValidationError("must be more than 0")
        return seconds


class Size(fields.Field[int]):
    """Bytes as an int, from "10MB", "64KiB" or a number of bytes."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> int:
        value = _scalar(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValidationError(
                f'must be a size such as "10MB" or "64KiB", or a number of bytes, not '
                f"{_shown(value)}"
            )
        return int(float(match[1]) * _BYTES[match[2]])


class Choice(Text):
    """One of a few words."""

    def __init__(self, *words: str, **kwargs: Any) -> None:
        super().__init__(
            validate=validate.OneOf(words, error="must be one of " + ", ".join(words)), **kwargs
        )
        self.words = words


class Items(fields.List[Any]):
    """An array, or one string from the environment with commas between the values. Loads as a
    tuple."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, Outside):
            value = value.items()
        if not isinstance(value, list):
            raise ValidationError(f"must be an array, not {_shown(value)}")
        loaded: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        return tuple(loaded)


class Map(fields.Dict):
    """A table whose keys the operator chooses."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"must be a table, not {_shown(value)}")
        return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]


class SubTable(fields.Nested):
    """A table within a table."""

    def __init__(self, table: TableClass, **kwargs: Any) -> None:
        super().__init__(schema_of(table), **kwargs)

    def _deserialize(
        self,
        value: Any,
        attr: str | None,
        data: Mapping[str, Any] | None,
        partial: Any = None,
        **kwargs: Any,
    ) -> Any:
        if not self.many and not isinstance(value, dict):
            raise ValidationError(f"must be a table, not {_shown(value)}")
        if self.many and not isinstance(value, list):
            raise ValidationError(f"must be an array of tables, not {_shown(value)}")
        return super()._deserialize(value, attr, data, partial, **kwargs)


class HostName(Text):
    """The name of a host, maybe with a wildcard in front; loads in its one spelling."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        try:
            return host_name(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class HttpUrl(Text):
    """An absolute http or https URL with a host and no user, query or fragment."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValidationError(f"is not a URL: {value!r}") from None
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or re.search(r"[\s\x00-\x1f]", value)
        ):
            raise ValidationError(f'must be a URL such as "http://127.0.0.1:3001", not {value!r}')
        if parts.username is not None or parts.query or parts.fragment:
            raise ValidationError("must have no user, query or fragment")
        try:
            a_labels(parts.hostname).encode("idna")
        except ValueError:
            raise ValidationError(f"{parts.hostname!r} is no host's name") from None
        return value


class EndpointUrl(HttpUrl):
    """An http or https URL, or a Unix socket ("unix:/run/app.sock") for HTTP in clear text."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, str) or not value.startswith("unix:"):
            return super()._deserialize(value, attr, data, **kwargs)
        unix_path(value)
        return value


def unix_path(value: str) -> str:
    """Return the path of "unix:/run/app.sock". Raises ValidationError."""
    path = value.removeprefix("unix:")
    if not path.startswith("/") or path.startswith("//") or re.search(r"[\s\x00-\x1f?#]", path):
        raise ValidationError(
            f'must be an absolute path such as "unix:/run/app.sock", not {value!r}'
        )
    if len(path.encode()) > UNIX_PATH_MAX:
        raise ValidationError(
            f"is longer than the {UNIX_PATH_MAX} bytes that a socket's path may have"
        )
    return path


UNIX_PATH_MAX = 107
"""Bytes of sun_path on Linux, without its last NUL (unix(7))."""


class Network(Text):
    """An address or CIDR network, e.g. "10.0.0.0/8"; with `unix`, also "unix": all peers that
    come over Unix sockets."""

    def __init__(self, *, unix: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._unix = unix

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if self._unix and value == "unix":
            return str(value)
        try:
            network: IPv4Network | IPv6Network = ip_network(value)
        except ValueError as error:
            raise ValidationError(f"is not a network: {error}") from None
        return network


class FieldName(Text):
    """An HTTP field name (RFC 9110 section 5.1: a token)."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
            raise ValidationError(f"is not a header name: {value!r}")
        return value


class FieldValue(Text):
    """An HTTP field value (RFC 9110 section 5.5): visible characters, spaces and tabs."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(
            r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?", value
        ):
            raise ValidationError(f"is not a header value: {value!r}")
        return value


def schema_of(table: TableClass) -> type[Table]:
    """Return the marshmallow schema of a class declared with `table`; a Table is its own."""
    found: type[Table] = getattr(table, "__table__", table)
    return found


def parse_duration(value: object) -> float:
    """Return the seconds of a TOML duration. Raises ValidationError."""
    value = _scalar(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValidationError(
            f'must be a duration such as "30s", "500ms" or "5m", or a number of seconds, not '
            f"{_shown(value)}"
        )
    return float(match[1]) * _SECONDS[match[2]]


def _scalar(value: Any) -> Any:
    """Return the number or boolean that a value from the environment spells, or else the value."""
    return value.scalar() if isinstance(value, Outside) else value


def _range(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "must be at least {min}" if most is None else "must be at most {max}"
    return "must be from {min} to {max}"


def _shown(value: object) -> str:
    """Return a value as error messages show it: the kind of a container, and never a long string
    whole."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
