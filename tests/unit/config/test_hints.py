"""Which hint is chosen: meaning first, then spelling, then other tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.config import hints
from gateway.config.tables.schema import (
    Boolean,
    Choice,
    Items,
    Number,
    Secret,
    Text,
    Whole,
    schema_of,
)
from gateway.config.tables.server import ListenConfig
from tests.unit.config.test_foreign_words import TABLES


@pytest.mark.parametrize(
    ("path", "table"),
    [
        (("include",), ""),
        (("listen", "tls", "key"), "listen.tls"),
        (("upstream", "origin", "url"), "upstream.NAME"),
        (("upstream", "origin", "endpoints", 2, "url"), "upstream.NAME.endpoints"),
        (("route", 1, "rate_limit", "limit"), "route.rate_limit"),
    ],
)
def test_table_of(path: tuple[str | int, ...], table: str):
    assert hints.table_of(path) == table


@pytest.mark.parametrize(
    ("table", "key", "known", "hint"),
    [
        ("auth", "permissions", {"require", "roles"}, "did you mean 'require'?"),
        ("auth", "permissions", {"roles"}, "did you mean 'require' in [auth]"),  # given already
        ("listen", "Proxy-Protocol", {"proxy_protocol"}, "did you mean 'proxy_protocol'?"),
        ("upstream.NAME", "timeout", {"timeouts"}, "did you mean 'timeouts.read'?"),
        ("upstream.NAME", "timeuots", {"timeouts"}, "did you mean 'timeouts'?"),
        ("route", "gzip", {"compression"}, "did you mean 'compression'?"),
        ("route", "iss", {"auth"}, "did you mean 'auth.jwt.issuer'?"),
        ("server", "max_idle", {"workers"}, "'max_idle' stands in [upstream.NAME]"),
        ("logging", "process", {"file"}, "'process' stands in [logging] of gateway.toml"),
        ("server", "sni", {"workers"}, "or"),
        ("", "rate_limit", {"listen"}, "the table of 'rate_limit' stands in the pipeline"),
        ("own", "nothing_like_it", {"a", "b"}, "known: a, b"),
        ("own", "nothing_like_it", set(map(str, range(20))), ""),
    ],
)
def test_unknown_key(table: str, key: str, known: set[str], hint: str):
    found = hints.unknown_key(table, key, known)
    assert hint in found if hint else found == ""


def misspelt(key: str) -> Iterator[str]:
    """A letter left out, two in the wrong order, one too many, another spelling of the whole."""
    middle = len(key) // 2
    yield key[:middle] + key[middle + 1 :]
    yield key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    yield f"{key}s"
    yield key.replace("_", "-")
    yield key.replace("_", "")


def test_nearly_every_misspelling_of_every_key_is_recognized():
    tried = missed = 0
    for table, keys in TABLES.items():
        for key in keys:
            for word in misspelt(key) if len(key) > 3 else ():
                if word not in keys:
                    tried += 1
                    missed += repr(key) not in hints.unknown_key(table, word, keys)
    assert tried > 1500 and missed < tried / 100, f"{missed} of {tried}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gzip", "did you mean 'compression'?"),
        ("rateLimit", "did you mean 'rate_limit'?"),
        ("comprssion", "did you mean 'compression'?"),
        ("xyz", "known: compression, rate_limit"),
    ],
)
def test_unknown_middleware(name: str, hint: str):
    assert hints.unknown_middleware(name, ("rate_limit", "compression")) == hint


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        (Whole(), "80", "write 80, without quotes"),
        (Number(), "0.5", "write 0.5, without quotes"),
        (Whole(), "eighty", ""),
        (Whole(), True, ""),
        (Boolean(), "No", "write false, without quotes"),
        (Boolean(), "perhaps", ""),
        (Items(Text()), "a", "in brackets: ['a']"),
        (Items(Text()), "a" * 41, "in brackets: [...]"),
        (Items(Secret()), "hunter2", "in brackets: [...]"),
        (Items(Text()), 5, ""),
        (Choice("open", "closed"), "opne", "did you mean 'open'?"),
        (Choice("open", "closed"), "deny", "did you mean 'closed'?"),
        (Choice("open", "closed"), "xyz", ""),
        (Text(), "", ""),
        (schema_of(ListenConfig)(), "0.0.0.0:80", "a table, such as { host = ... }"),
        (schema_of(ListenConfig)(), {}, ""),
    ],
)
def test_misshapen(field: object, value: object, hint: str):
    assert hints.misshapen(field, value) == hint
