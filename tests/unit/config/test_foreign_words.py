"""Every key that a foreign word leads to exists, and no word is a key of its own table."""

from __future__ import annotations

from gateway.config.foreign_words import MIDDLEWARES, VALUES, WORDS
from gateway.config.tables import schema
from gateway.middlewares import CATALOGUE
from tests.docs.reference import OWN_LOGS, sections

NAMES = {"gateway.toml": "", "pipelines/NAME.toml": "pipeline"}
TABLES: dict[str, set[str]] = {"upstreams.toml": {"upstream"}}
for section in sections():
    if section.heading != OWN_LOGS:
        heading = section.heading.strip("[]")
        keys = TABLES.setdefault(NAMES.get(heading, heading), set())
        keys |= {row.key for row in section.rows}


def test_every_key_exists():
    absent = [
        (table, key)
        for table, keys in WORDS.items()
        for key in keys
        if key not in TABLES.get(table, ())
    ]
    assert absent == []


def test_no_word_is_a_key_of_its_table():
    known = [
        (table, word)
        for table, keys in WORDS.items()
        for words in keys.values()
        for word in words.split()
        if word in TABLES[table]
    ]
    assert known == []


def test_middlewares_exist():
    assert MIDDLEWARES.keys() == CATALOGUE.keys()
    assert not {word for words in MIDDLEWARES.values() for word in words.split()} & {*CATALOGUE}


def test_values_are_choices_somewhere():
    assert VALUES.keys() <= CHOICES


def _choices(table: type) -> set[str]:
    found: set[str] = set()
    for one in schema.schema_of(table)().load_fields.values():
        inner = getattr(one, "inner", one)
        found |= {*getattr(inner, "words", ())}
        if hasattr(inner, "schema"):
            found |= _choices(type(inner.schema))
    return found


def _all_choices() -> set[str]:
    from gateway.config.tables.server import GatewayConfig
    from gateway.config.tables.upstream import UpstreamConfig
    from gateway.middlewares import find

    tables = [GatewayConfig, UpstreamConfig, *(find(name).config for name in CATALOGUE)]
    return {word for table in tables if table is not None for word in _choices(table)}


CHOICES = _all_choices()
