import copy
import pickle
from pathlib import Path

import pytest
from marshmallow import ValidationError

from gateway.config.tables.schema import Secret
from gateway.config.toml.sources import FileTable, Outside, SecretText, Sources, plain


def test_what_is_from_outside_shows_only_what_was_written() -> None:
    value = Outside("hunter2", "${PASSWORD}")
    assert value == "hunter2"
    assert repr(value) == "'${PASSWORD}'"
    assert repr([value]) == "['${PASSWORD}']"
    assert type(str(value)) is str


@pytest.mark.parametrize("kind", [Outside, SecretText])
def test_copies_stay_masked(kind: type[Outside]) -> None:
    value = kind("hunter2", "***")
    for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert (twin, type(twin), repr(twin)) == ("hunter2", kind, "'***'")


@pytest.mark.parametrize(
    ("text", "scalar"),
    [
        ("8080", 8080),
        ("-1", -1),
        ("0.5", 0.5),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("30s", "30s"),
        ("1.2.3", "1.2.3"),
        ("", ""),
        ("-", "-"),
        ("²", "²"),
        ("1_000", "1_000"),
    ],
)
def test_scalars(text: str, scalar: object) -> None:
    found = Outside(text, "${X}").scalar()
    assert found == scalar
    assert type(found) in (type(scalar), Outside)


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one")
    sources = Sources({})
    assert sources.read(path) == b"one"
    path.write_text("two")
    assert sources.read(path) == b"one"
    assert sources.files == {path: b"one"}


@pytest.mark.parametrize(
    ("mode", "said"), [(0o600, False), (0o640, False), (0o604, True), (0o644, True)]
)
def test_files_of_secrets_that_others_can_read(tmp_path: Path, mode: int, said: bool) -> None:
    path = tmp_path / "secret"
    path.write_text("\ufeffhunter2\n")
    path.chmod(mode)
    sources = Sources({})
    table = FileTable({"file": "secret"}, tmp_path, sources)
    assert table.contents() == "hunter2" and not sources.exposed  # what is no secret may be read
    assert Secret().deserialize(table) == "hunter2" and sources.exposed == (
        {path} if said else set()
    )


def test_variables_lose_the_line_feed_that_files_end_with() -> None:
    sources = Sources({"TOKEN": "hunter2\r\n", "SPACED": " a b ", "EMPTY": "\n"})
    assert [sources.variable(name) for name in ("TOKEN", "SPACED", "EMPTY", "NONE")] == [
        "hunter2",
        " a b ",
        "",
        None,
    ]


def fingerprint(
    root: Path, files: dict[str, str], environ: dict[str, str], names: list[str]
) -> str:
    root.mkdir(exist_ok=True)
    sources = Sources(environ)
    for name, text in files.items():
        (root / name).write_text(text)
        sources.read(root / name)
    for name in names:
        sources.variable(name)
    return sources.fingerprint(root)


FILES = {"a.toml": "a", "b.toml": "b"}


@pytest.mark.parametrize(
    ("what", "files", "environ", "names"),
    [
        ("a file's contents", {"a.toml": "A", "b.toml": "b"}, {"X": "1"}, ["X"]),
        ("contents exchanged", {"a.toml": "b", "b.toml": "a"}, {"X": "1"}, ["X"]),
        ("a file's name", {"a.toml": "a", "c.toml": "b"}, {"X": "1"}, ["X"]),
        ("a file less", {"a.toml": "a"}, {"X": "1"}, ["X"]),
        ("a variable's value", FILES, {"X": "2"}, ["X"]),
        ("a variable that is unset", FILES, {}, ["X"]),
        ("a variable that is empty", FILES, {"X": ""}, ["X"]),
        ("a variable that is not read", FILES, {"X": "1"}, []),
        ("another variable", FILES, {"X": "1", "Y": "1"}, ["Y"]),
    ],
)
def test_a_fingerprint_tells_apart(
    tmp_path: Path, what: str, files: dict[str, str], environ: dict[str, str], names: list[str]
) -> None:
    known = fingerprint(tmp_path / "a", FILES, {"X": "1"}, ["X"])
    assert fingerprint(tmp_path / "b", files, environ, names) != known, what


def test_an_empty_variable_is_not_an_unset_one(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, {}, {"X": ""}, ["X"]) != fingerprint(tmp_path, {}, {}, ["X"])


def test_a_fingerprint_is_of_what_was_read_not_of_where_or_when(tmp_path: Path) -> None:
    here = fingerprint(tmp_path / "a", FILES, {"X": "1", "Z": "2"}, ["X"])
    assert (
        fingerprint(tmp_path / "b", dict(reversed(FILES.items())), {"X": "1"}, ["X", "X"]) == here
    )
    assert len(here) == 16
    assert int(here, 16) >= 0


def test_a_file_table_is_a_table_and_its_files_contents(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n  hunter2 \n")
    table = FileTable({"file": "secret"}, tmp_path, Sources({}))
    assert table == {"file": "secret"}
    assert table.contents() == "hunter2"
    assert repr(table.contents()) == repr('{ file = "secret" }')


@pytest.mark.parametrize(
    ("what", "name", "message"),
    [
        (
            "a file that is not there",
            "nothing",
            "cannot read 'nothing': No such file or directory (in {folder})",
        ),
        ("a directory", ".", "cannot read '.': Is a directory (in {folder})"),
        ("what is no text", "binary", "'binary' is not text in UTF-8"),
        ("a name with a NUL", "a\0b", "cannot read 'a\\x00b': embedded null byte (in {folder})"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, what: str, name: str, message: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError) as caught:
        FileTable({"file": name}, tmp_path, Sources({})).contents()
    assert caught.value.messages == [message.replace("{folder}", str(tmp_path))], what


def test_the_name_of_a_file_may_come_from_outside(tmp_path: Path) -> None:
    table = FileTable({"file": Outside("nothing", "${WHERE}")}, tmp_path, Sources({}))
    with pytest.raises(ValidationError, match=r"cannot read '\$\{WHERE\}'"):
        table.contents()


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbfhunter2\n")
    assert FileTable({"file": "token"}, tmp_path, Sources({})).contents() == "hunter2"


def test_items_of_one_string() -> None:
    assert Outside("a, b,,c ", "${X}").items() == ["a", "b", "c"]
    assert Outside("", "${X}").items() == []
    assert repr(Outside("a", "${X}").items()) == "['${X}']"


def test_a_whole_path_needs_no_folder(tmp_path: Path) -> None:
    table = FileTable({"file": str(tmp_path / "nothing")}, tmp_path, Sources({}))
    with pytest.raises(ValidationError, match=r"No such file or directory$"):
        table.contents()


def test_plain_leaves_secrets_alone(tmp_path: Path) -> None:
    secret = SecretText("s", "***")
    table = FileTable({"file": Outside("a", "${A}")}, tmp_path, Sources({}))
    value = plain({"x": [Outside("b", "${B}"), (1, Outside("c", "${C}"))], "t": table, "s": secret})
    assert value == {"x": ["b", (1, "c")], "t": {"file": "a"}, "s": "s"}
    assert [type(value["x"][0]), type(value["x"][1][1]), type(value["t"])] == [str, str, dict]
    assert value["s"] is secret
