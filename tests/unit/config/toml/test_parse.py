"""Text that nests too deeply is an error with a place, whatever it nests in."""

import json
import tomllib

import pytest

from gateway.config.toml.parse import loads_json, loads_toml


def test_what_is_read_is_as_the_parsers_have_it() -> None:
    assert loads_toml("a = [1]") == {"a": [1]}
    assert loads_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "line 1, column 105"),
        ("# [\nb = '['\na = " + "[" * 5000 + "]" * 5000, "line 3, column 105"),
        ("a = " + "{a = " * 5000 + "1" + "}" * 5000, "line 1, column 505"),
        ('a = """\n[[[\\"\n""" \nb = ' + "[\n" * 5000, "line 104, column 1"),
    ],
)
def test_toml_that_nests_too_deeply(text: str, place: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        loads_toml(text)
    assert str(caught.value) == f"Nests too deeply (at {place})"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"[" * 100_000])
def test_json_that_nests_too_deeply(text: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError, match="nests too deeply: line 1 column"):
        loads_json(text)


@pytest.mark.parametrize("text", ["a = [", "a = {b = [}", "[[a]"])
def test_other_errors_stay(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        loads_toml(text)
    assert "deeply" not in str(caught.value)
