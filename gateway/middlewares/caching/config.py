"""What `[caching]` says."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import ValidationError, validates

from gateway.config.tables.schema import Boolean, Duration, FieldName, Items, Size, SubTable, Table, Text


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """What tells requests apart beside method, scheme, Host and target (compared as sent, nothing normalised).

    headers:      request fields whose values count too, whatever the origin's Vary says.
    query_ignore: query parameters that do not count, by name; "utm_*" takes all that begin so.
    """

    headers: tuple[str, ...] = ()
    query_ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CachingConfig:
    """Times in seconds, sizes in bytes.

    default_ttl:    how long a response is fresh for which the origin gives neither Cache-Control max-age or s-maxage nor Expires,
                    if its status is cacheable by default; 0 does not store such.
    max_size:       what the store of the process may hold. There is one store; whoever stores evicts down to its own limit.
    max_entry:      the largest response stored, fields and bookkeeping included.
    stale_if_error: how long after its time a response may answer for a failing origin that does not say so itself.
    private:        also keep what only one identity may see, for that identity alone.
    request_directives: whether clients' Cache-Control and Pragma count; without, none can make the origin work.
    invalidate:     paths ("*" takes anything) whose responses a successful write on this route invalidates, beside its own URI.
    """

    default_ttl: float = 0.0
    max_size: int = 256 * 1024**2
    max_entry: int = 1024**2
    stale_if_error: float = 0.0
    private: bool = False
    request_directives: bool = True
    invalidate: tuple[str, ...] = ()
    key: KeyConfig = KeyConfig()


class KeyTable(Table):
    makes = KeyConfig
    headers = Items(FieldName())
    query_ignore = Items(Text())


class CachingTable(Table):
    makes = CachingConfig
    default_ttl = Duration(zero=True)
    max_size = Size()
    max_entry = Size()
    stale_if_error = Duration(zero=True)
    private = Boolean()
    request_directives = Boolean()
    invalidate = Items(Text())
    key = SubTable(KeyTable)

    @validates("invalidate")
    def _invalidate(self, value: tuple[str, ...], data_key: str) -> None:
        wrong = {index: ['must start with "/" or "*"'] for index, path in enumerate(value) if path[0] not in "/*"}
        if wrong:
            raise ValidationError(wrong)
