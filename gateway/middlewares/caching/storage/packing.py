"""Stored responses as bytes: what memory keeps of those that are not in use, and what other
processes are sent.

The format is JSON, compressed: nothing that is read from a store can do more than be wrong. Where
and for whom a response is kept is not in it.
"""

from __future__ import annotations

import zlib
from typing import Any, get_args, get_origin, get_type_hints

import orjson

from gateway.middlewares.caching.entries import Entry, indexed, line_block

VERSION = 1
"""Of the format: what another version has written is not read."""

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


def unpack(packed: bytes, **key: Any) -> tuple[Entry, int]:
    """Return what `pack` was given.

    key: `uri`, `scope`, `vary` and `key` of the entry. Raises ValueError for anything else.
    """
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "little")
    try:
        text = zlib.decompressobj(_WINDOW, _SAMPLE).decompress(packed[_LENGTH:end])
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
