"""What operators get wrong in TOML who write YAML, JSON or nginx's language more often."""

from __future__ import annotations

import tomllib

import pytest

from gateway.config.toml.positions import syntax_error
from gateway.config.toml.syntax import INLINE, QUOTES, explain


def explained(text: str) -> tuple[str, str]:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    place, message = syntax_error(caught.value, text)
    return explain(message, text, place)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("balance = round_robin", QUOTES),
        ("path = /health", QUOTES),
        ("timeout = 30s", QUOTES),
        ("host = 127.0.0.1", QUOTES),
        ("on = True", "write true"),
        ("on = No", "write false"),
        ("on = ", "a value is missing"),
        ("on = # soon", "a value is missing"),
        ("a = \u201cx\u201d", 'use plain quotes: "'),
        ("host: 5", "write key = value"),
        ("port 8080", "write key = value"),
        ("upstream becamera {\n}", "a table begins with its header"),
        ("a = 5;", "leave the semicolon out"),
        ("a = { x = 1,\n}", INLINE),
        ("a = { x = 1\n}", INLINE),
        ("a = {\n x = 1 }", INLINE),
        ("a = [1, 2\nb = 3", "a bracket ] or a comma is missing before this"),
        ("[server\nx = 1", "a header is [NAME]"),
        ('a = "C:\\path"', "text with backslashes stands in single quotes"),
        ("// comment", "comments begin with #"),
        ("<<<<<<< HEAD\na = 1", "a merge conflict is left in this file"),
        ("= 5", "the key is missing"),
        ("!", ""),
        ("a = 'x", ""),
    ],
)
def test_hints(text: str, hint: str):
    message, found = explained(text)
    assert message.startswith("not TOML: ")
    assert found.startswith(hint) if hint else found == ""


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[a.b]\nx = 1\n[a.b]\ny = 2", "[a.b] is there twice", "a list has [[a.b]]"),
        ("a = { b = 1 }\n[a.c]\nd = 1", "[a.c] is there twice", "put all its keys in one place"),
        ("a = 1\na = 2", "the key is there twice", "keep one of them"),
    ],
)
def test_what_is_there_twice(text: str, message: str, hint: str):
    found = explained(text)
    assert found[0] == message and hint in found[1]


def test_no_value_is_shown():
    for text in ("token = s3cret", "token = s3cret-7", "a = { token = s3cret }", "token s3cret"):
        assert "s3cret" not in " ".join(explained(text))
