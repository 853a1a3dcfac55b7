import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.toml.positions import KeyPath, positions, syntax_error


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


@pytest.mark.parametrize(
    ("what", "text", "path", "place"),
    [
        ("a key", "a = 1", ("a",), (1, 1)),
        ("an indented key behind a comment", "# é\n\n  a = 1", ("a",), (3, 3)),
        ("a table", "[a.b]", ("a", "b"), (1, 4)),
        ("a table that only others name", "[a.b]\n[a.c]", ("a",), (1, 2)),
        ("a table that others named before", "[a.b]\n[a]", ("a",), (2, 2)),
        ("a key in a table", "[a]\n[b]\nc = 1", ("b", "c"), (3, 1)),
        ("spaces in a header", "[ a . b ]\n c = 1", ("a", "b", "c"), (2, 2)),
        ("a dotted key", "a.b.c = 1", ("a", "b", "c"), (1, 5)),
        ("the second with the same start", "a.b = 1\na . c = 2", ("a", "c"), (2, 5)),
        ("an inline table", "a = { b = 1, c = { d = 2 } }", ("a", "c", "d"), (1, 20)),
        ("a dotted key in an inline table", "a = { b.c = 1 }", ("a", "b", "c"), (1, 9)),
        ("an array", 'a = [1, "b", [2]]', ("a", 1), (1, 9)),
        ("an array in an array", "a = [1, [2, 3]]", ("a", 1, 1), (1, 13)),
        ("an array over lines with comments", "a = [ # ],\n  1,\n # 2\n  3, ]", ("a", 1), (4, 3)),
        (
            "inline tables in an array",
            "a = [\n  { b = 1 },\n  { b = 2 },\n]",
            ("a", 1, "b"),
            (3, 5),
        ),
        ("an array of tables", "[[a]]\n[[a]]\nb = 1", ("a", 1), (2, 3)),
        ("an array of tables as a whole", "[[a]]\n[[a]]", ("a",), (1, 3)),
        ("a key in an array of tables", "[[a]]\n[[a]]\nb = 1", ("a", 1, "b"), (3, 1)),
        (
            "a table in the last of an array",
            "[[a]]\n[[a]]\n[a.b]\nc = 1",
            ("a", 1, "b", "c"),
            (4, 1),
        ),
        (
            "arrays of tables in each other",
            "[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\n[[a.b]]\nc = 1",
            ("a", 1, "b", 1, "c"),
            (6, 1),
        ),
        ("a quoted key", '"a b" = 1\n["c.d"]', ("c.d",), (2, 2)),
        ("a literal key", "'a\\b' = 1", ("a\\b",), (1, 1)),
        ("escapes in a key", '"a\\u0062\\t" = 1', ("ab\t",), (1, 1)),
        ("a key behind letters beyond ASCII", 'a = { "ä𝄞" = 1, b = 2 }', ("a", "b"), (1, 17)),
        ("what looks like a key in a string", "a = '''\nb = 1\n'''\nb = 2", ("b",), (4, 1)),
        ("quotes at the end of a multi-line string", 'a = """x"""""\nb = 1', ("b",), (2, 1)),
        ("literal quotes at the end of one", "a = '''x'''''\nb = 1", ("b",), (2, 1)),
        ("an escaped quote", 'a = "\\"# " # "\nb = 1', ("b",), (2, 1)),
        ("an escaped backslash", 'a = "\\\\"\nb = 1', ("b",), (2, 1)),
        ("empty strings", 'a = ["", \'\', """"""]\nb = 1', ("b",), (2, 1)),
        ("a date with a space", "a = [1979-05-27 07:32:00, 2]", ("a", 1), (1, 27)),
        ("windows line ends", "a = 1\r\n# c\r\nb = 2\r\n", ("b",), (3, 1)),
        ("no line end", "a = 1", ("a",), (1, 1)),
        ("empty containers", "a = []\nb = {}\nc = [[], {}]\nd = 1", ("d",), (4, 1)),
    ],
)
def test_places(what: str, text: str, path: KeyPath, place: tuple[int, int]) -> None:
    found = positions(text)
    assert set(found) == set(paths(tomllib.loads(text)))
    assert found[path] == place, what


def test_nothing() -> None:
    assert positions("") == {}
    assert positions("\n# only a comment") == {}


def test_text_that_tomllib_refuses_is_not_for_this() -> None:
    with pytest.raises(ValueError, match="offset 0"):
        positions("= 1")


@pytest.mark.parametrize(
    ("what", "text", "place", "message"),
    [
        ("a missing value", "a = 1\nb = \n", (2, 5), "Invalid value"),
        (
            "a key without a value",
            "a = 1\n  b\n",
            (2, 4),
            "Expected '=' after a key in a key/value pair",
        ),
        ("the end", 'a = 1\nb = "x\n', (2, 7), "Illegal character '\\n'"),
        ("an array without an end", "a = [1,\n\n", (1, 8), "Invalid value at the end"),
        ("twice", "[a]\n[a]\n", (2, 3), "Cannot declare ('a',) twice"),
    ],
)
def test_syntax_errors(what: str, text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    found, said = syntax_error(caught.value, text)
    assert "(at" not in said
    assert (found, said) == (place, message), what


def test_a_syntax_error_at_the_end_is_behind_the_last_sign() -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads("a = 1\nb = '''x\n\n")
    assert syntax_error(caught.value, "a = 1\nb = '''x\n\n") == (
        (2, 9),
        "Expected \"'''\" at the end",
    )


def test_a_syntax_error_without_a_place_is_at_the_start() -> None:
    assert syntax_error(tomllib.TOMLDecodeError("Odd"), "a") == ((1, 1), "Odd")


# Documents: a tree of values, each written in one of the ways TOML has for it.

BARE = st.text("abcdefgh0123456789_-", min_size=1, max_size=4)
KEYS = BARE | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
SCALARS = (
    st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.dates()
    | st.datetimes()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(
    KEYS,
    VALUES | st.lists(st.dictionaries(KEYS, VALUES, max_size=2), min_size=1, max_size=3),
    max_size=5,
)


class Writer:
    """Writes a document, choosing among spellings as `choose` says."""

    def __init__(self, choose: Any) -> None:
        self.choose = choose
        self.lines: list[str] = []

    def gap(self) -> str:
        return self.choose(["", " ", "\t", "  "])

    def key(self, key: str) -> str:
        if (
            key
            and all(letter in "abcdefgh0123456789_-" for letter in key)
            and self.choose([True, False])
        ):
            return key
        if not any(ord(letter) < 32 or letter in "'\x7f" for letter in key) and self.choose(
            [True, False]
        ):
            return f"'{key}'"
        return self.basic(key)

    def basic(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self.ascii_only(text)).replace("\x7f", "\\u007f")

    def ascii_only(self, text: str) -> bool:
        return self.choose([True, False]) and all(ord(letter) < 0x10000 for letter in text)

    def string(self, text: str) -> str:
        literal = not re.search(r"'''|'$|[\x00-\x08\x0b-\x1f\x7f]", text)
        if literal and self.choose([True, False]):
            return f"'''\n{text}'''"
        if self.choose([True, False]):
            return '""' + self.basic(text) + '""'
        return self.basic(text)

    def value(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, list):
            space = self.choose(["", " ", "\n", " # ] } '\n"])
            items = [f"{space}{self.value(item)}{self.gap()}" for item in value]
            return (
                "["
                + ",".join(items)
                + ("," if items and self.choose([True, False]) else "")
                + space
                + "]"
            )
        if isinstance(value, dict):
            pairs = [
                f"{self.gap()}{self.key(key)}{self.gap()}={self.gap()}{self.value(item)}"
                for key, item in value.items()
            ]
            return "{" + ",".join(pairs) + self.gap() + "}"
        if isinstance(value, int | float):
            return repr(value)
        return value.isoformat()

    def table(self, table: dict[str, Any], path: tuple[str, ...]) -> None:
        """Plain values first, then what has headers of its own."""
        headed = {}
        for key, value in table.items():
            tables = (
                isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            )
            if (isinstance(value, dict) or tables) and self.choose([True, False]):
                headed[key] = value
            elif isinstance(value, dict) and value and self.choose([True, False]):
                for inner, item in value.items():
                    self.lines.append(
                        f"{self.key(key)}{self.gap()}.{self.gap()}{self.key(inner)} = "
                        f"{self.value(item)}"
                    )
            else:
                self.lines.append(
                    f"{self.gap()}{self.key(key)}{self.gap()}={self.gap()}{self.value(value)} # "
                    f"= ' \" ["
                )
        for key, value in headed.items():
            name = ".".join(f"{self.gap()}{self.key(part)}{self.gap()}" for part in (*path, key))
            for item in value if isinstance(value, list) else [value]:
                self.lines.append(
                    f"[[{name}]]" if isinstance(value, list) else f"{self.gap()}[{name}]"
                )
                self.table(item, (*path, key))


@settings(max_examples=200, deadline=None)
@given(document=DOCUMENTS, data=st.data(), line_end=st.sampled_from(["\n", "\r\n"]))
def test_every_path_is_where_its_key_or_value_starts(
    document: dict[str, Any], data: st.DataObject, line_end: str
) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    writer = Writer(random.choice)
    writer.table(document, ())
    text = line_end.join(writer.lines)
    parsed = tomllib.loads(text)
    found = positions(text)
    assert set(found) == set(paths(parsed))
    lines = text.split("\n")
    for path, (line, column) in found.items():
        here = lines[line - 1][column - 1 :]
        if isinstance(path[-1], str):
            assert key_at(here) == path[-1]
        elif not (lines[line - 1].lstrip().startswith("[[") and key_at(here) == path[-2]):
            assert starts(here, value_at(parsed, path)), (path, here)


KEY = re.compile(r"""[A-Za-z0-9_-]+|'[^']*'|"(?:[^"\\]|\\.)*\"""")


def key_at(text: str) -> str | None:
    """The key that `text` starts with."""
    match = KEY.match(text)
    return next(iter(tomllib.loads(f"{match[0]} = 0"))) if match else None


def value_at(value: Any, path: KeyPath) -> Any:
    for part in path:
        value = value[part]
    return value


def starts(text: str, value: Any) -> bool:
    """Whether a value of this kind can start so."""
    if isinstance(value, str):
        return text.startswith(('"', "'"))
    if isinstance(value, list | dict):
        return text.startswith("[" if isinstance(value, list) else "{")
    return text[:1] in "-+0123456789tfin"
