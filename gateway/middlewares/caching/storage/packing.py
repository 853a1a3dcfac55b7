"""Stored responses as bytes: what memory keeps of those that are not in use, and what other
processes are sent.

The format is JSON, compressed: nothing that is read from a store can do more than be wrong. Where
and for whom a response is kept is not in it.
"""

from __future__ import annotations

import zlib
from typing import Any, get_args, get_origin, get_type_hints

import orjson

from gateway.core.headers import check_field
from gateway.middlewares.caching.entries import Entry, indexed, line_block
from gateway.store.purges import BUCKETS

VERSION = 1
"""Of the format: what another version has written is not read."""

MAX_TEXT = 1024 * 1024
"""Bytes that another process may have packed, beside the body: a few may stand for very many."""
_WINDOW = -12
_LENGTH = 4

_SAMPLE = (
    b'"],["Set-Cookie","Expires","Surrogate-Key","Cache-Tag","Content-Language","en"],'
    b'["Access-Control-Allow-Origin","*"],["Vary","Origin"],["Last-Modified","Content-Encoding","gzip","br"],'
    b'["Strict-Transport-Security","max-age=31536000"],["Server","nginx"],["Vary",'
    b'"Accept-Encoding, Origin"],["Cache-Control","public, max-age=3600, s-maxage=60, '
    b'stale-while-revalidate=, stale-if-error=, must-revalidate, no-cache"],["ETag","W/\\"'
    b'Mon, Tue, Wed, Thu, Fri, Sat, Sun, Jan Feb 2026 2027 00:00:00 GMT"],["Content-Type",'
    b'"text/html; charset=utf-8"],["Content-Type","application/json; charset=utf-8"],'
    b'["Cache-Control","max-age=60"],["Date"," GMT"]],200,"OK",3600.0,1800000000,false,false,null,'
    b'null,null,[]],"\\"",null,[]][1,0,[["Content-Type","'
)
"""What entries have in common (RFC 1950 section 2.2, a preset dictionary)."""

_APART = frozenset(("uri", "scope", "vary", "key", "headers", "fields", "lines", "body"))
_PLAIN = tuple(name for name in Entry._fields if name not in _APART)
_HINTS = get_type_hints(Entry)
_BYTES = tuple(name for name in _PLAIN if bytes in (_HINTS[name], *get_args(_HINTS[name])))
_TUPLES = tuple(name for name in _PLAIN if get_origin(_HINTS[name]) is tuple)
_KINDS = {
    name: (int, float) if _HINTS[name] is float else tuple if name in _TUPLES else _HINTS[name]
    for name in _PLAIN
}


def pack(entry: Entry, stamp: int) -> bytes:
    """Return an entry without its key, and the version of the purges that it was asked for at.

    Times are rounded to milliseconds.
    """
    facts: dict[str, Any] = {name: getattr(entry, name) for name in _PLAIN}
    for name in _BYTES:
        if facts[name] is not None:
            facts[name] = facts[name].decode("latin-1")
    facts["born"] = round(entry.born, 3)
    facts["lifetime"] = round(entry.lifetime, 3)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in entry.headers]
    text = orjson.dumps([VERSION, stamp, headers, *facts.values()])
    packer = zlib.compressobj(6, zlib.DEFLATED, _WINDOW, 4, zlib.Z_DEFAULT_STRATEGY, _SAMPLE)
    head = packer.compress(text) + packer.flush()
    return len(head).to_bytes(_LENGTH, "little") + head + entry.body


def unpack_foreign(packed: bytes, **key: Any) -> tuple[Entry, int]:
    """Return what another process's `pack` was given. Raises ValueError for what no entry is, and
    for fields that would end their lines early."""
    entry, stamp = unpack(packed, MAX_TEXT, **key)
    for name in _PLAIN:
        if not isinstance(getattr(entry, name), _KINDS[name]):
            raise ValueError(f"{name}: {getattr(entry, name)!r}")
    numbers = (*entry.tags, entry.start, entry.total, entry.date, stamp)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"not all whole numbers: {numbers!r}")
    if not 200 <= entry.status <= 599 or any(tag >= BUCKETS for tag in entry.tags):
        raise ValueError(f"status {entry.status}, tags {entry.tags}")
    validators = (entry.etag or b"", entry.last_modified or b"")
    for pair in (*entry.headers, *((b"-", one) for one in (entry.reason, *validators))):
        check_field(*pair)
    return entry, stamp


def unpack(packed: bytes, most: int = 0, **key: Any) -> tuple[Entry, int]:
    """Return what `pack` was given.

    most: bytes of all but the body, as text; 0 for any. key: `uri`, `scope`, `vary` and `key` of
    the entry. Raises ValueError for anything else.
    """
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "little")
    try:
        text = zlib.decompressobj(_WINDOW, _SAMPLE).decompress(packed[_LENGTH:end], most)
        version, stamp, pairs, *values = orjson.loads(text)
        if version != VERSION:
            raise ValueError(f"version {version}")
        facts = dict(zip(_PLAIN, values, strict=True))
        for name in _BYTES:
            if facts[name] is not None:
                facts[name] = facts[name].encode("latin-1")
        for name in _TUPLES:
            facts[name] = tuple(facts[name])
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
    except (zlib.error, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return (
        Entry(
            **key,
            **facts,
            headers=headers,
            fields=indexed(headers),
            lines=line_block(headers),
            body=packed[end:],
        ),
        stamp,
    )
