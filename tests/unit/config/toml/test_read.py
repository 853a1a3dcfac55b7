import os
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest

from gateway.config.toml.problems import Problems
from gateway.config.toml.read import Document, read_tree
from gateway.config.toml.sources import FileTable, Outside
from tests.unit.config.tree import Tree


def data_of(tree: Tree, text: str) -> dict[str, object]:
    tree.write("gateway.toml", text)
    found = read_tree(tree.root / "gateway.toml", tree.environ)
    assert found.gateway is not None
    return found.gateway.data


def read_problems(tree: Tree) -> list[str]:
    found = read_tree(tree.root / "gateway.toml", tree.environ).problems.all()
    return [
        (
            f"{problem.file.name}:{problem.line}:{problem.column}: {problem.severity}: "
            f"{problem.message}"
        )
        for problem in found
    ]


def included(tree: Tree) -> list[str]:
    found = read_tree(tree.root / "gateway.toml", tree.environ)
    return [
        str(document.file.relative_to(tree.root))
        for document in (*found.upstreams, *found.pipelines)
    ]


@pytest.mark.parametrize(
    ("what", "text", "value"),
    [
        ("a variable", "${NAME}", "edge"),
        ("one within text", "http://${NAME}:${PORT}/", "http://edge:80/"),
        ("a default that is not needed", "${NAME:-other}", "edge"),
        ("a default", "${NONE:-other}", "other"),
        ("a default for an empty variable", "${EMPTY:-other}", "other"),
        ("an empty variable", "a${EMPTY}b", "ab"),
        ("an empty default", "a${NONE:-}b", "ab"),
        ("a default with signs", "${NONE:-http://a:1/-}", "http://a:1/-"),
        ("an escape", "$${NAME}", "${NAME}"),
        ("an escape beside a variable", "$${NAME}${NAME}", "${NAME}edge"),
        ("no braces", "$NONE $ $$", "$NONE $ $$"),
        ("a default with a variable", "${NONE:-${NAME}}", "edge"),
        ("a default with a default", "${NONE:-a${NEITHER:-b}c}d", "abcd"),
        (
            "a default that is not needed, with a variable that is not there",
            "${NAME:-${NONE}}",
            "edge",
        ),
        ("an escape in a default", "${NONE:-$${NAME}}", "${NAME}"),
        ("a value that looks like a variable", "${NESTED}", "${NAME}"),
    ],
)
def test_variables(tree: Tree, what: str, text: str, value: str) -> None:
    tree.environ = {"NAME": "edge", "PORT": "80", "EMPTY": "", "NESTED": "${NAME}"}
    assert data_of(tree, f"a = '{text}'\nb = [{{ c = ['{text}'] }}]") == {
        "a": value,
        "b": [{"c": [value]}],
    }, what
    assert read_problems(tree) == []


def test_only_what_came_from_outside_is_marked_so(tree: Tree) -> None:
    tree.environ = {"NAME": "edge"}
    data = data_of(tree, "a = '${NAME}'\nb = '$${NAME}'\nc = 'c'\nd = '${NONE:-d}'")
    assert [type(data[key]) for key in "abcd"] == [Outside, str, str, Outside]


def test_keys_and_other_values_are_left_alone(tree: Tree) -> None:
    assert data_of(tree, '"${NAME}" = 5\nb = true\nc = 1.5') == {"${NAME}": 5, "b": True, "c": 1.5}


@pytest.mark.parametrize(
    ("what", "text", "message"),
    [
        ("an unset variable", "${NONE}", "the environment has no NONE"),
        ("an open brace", "${NAME", "'${' is not followed by a name and '}'"),
        ("no name", "${}", "'${' is not followed by a name and '}'"),
        ("what is no name", "${1A}", "'${' is not followed by a name and '}'"),
        ("an open brace in a default", "${NONE:-${NAME}", "'${' is not followed by a name and '}'"),
        ("an unset variable in a default", "${NONE:-${NEITHER}}", "the environment has no NEITHER"),
        ("too many defaults", "${NONE:-" * 200 + "}" * 200, "its defaults nest too deeply"),
        ("another of the shell's", "${NAME:?no}", "'${' is not followed by a name and '}'"),
    ],
)
def test_variables_that_are_wrong(tree: Tree, what: str, text: str, message: str) -> None:
    tree.environ = {"NAME": "edge"}
    tree.write("gateway.toml", f"[listen]\n  host = '{text}'\n")
    assert read_problems(tree) == [f"gateway.toml:2:3: error: {message}"], what


def test_every_unset_variable_is_named_and_nothing_more_said_of_the_value(tree: Tree) -> None:
    tree.write("gateway.toml", "[listen]\nhost = '${A}${B}'\nport = '${C}'")
    tree.pipeline("")
    assert tree.said() == [
        "gateway.toml:2: error: the environment has no A",
        "gateway.toml:2: error: the environment has no B",
        "gateway.toml:3: error: the environment has no C",
    ]
    assert tree.problems()[0].hint == "set it, or write ${A:-default}"


def test_a_table_with_one_key_called_file_can_be_read_by_who_wants_to(tree: Tree) -> None:
    data = data_of(
        tree,
        "a = { file = 'x' }\nb = { file = 'x', more = 1 }\nc = { file = 1 }\nd = [{ file = 'x' }]",
    )
    kinds = [type(data[key]) for key in "abc"]
    assert kinds == [FileTable, dict, dict]
    assert isinstance(data["d"], list) and isinstance(data["d"][0], FileTable)


def test_the_default_includes(tree: Tree) -> None:
    tree.pipeline("", "b")
    tree.pipeline("", "a")
    tree.write("pipelines/notes.txt", "")
    tree.write("other.toml", "")
    assert included(tree) == ["upstreams.toml", "pipelines/a.toml", "pipelines/b.toml"]


def test_the_default_includes_may_be_missing(tree: Tree) -> None:
    (tree.root / "upstreams.toml").unlink()
    assert included(tree) == []
    assert read_problems(tree) == []


def test_includes_are_read_in_order_and_once(tree: Tree) -> None:
    for name in ("b", "a", "c"):
        tree.write(f"d/{name}.toml", "")
    tree.write("gateway.toml", 'include = ["d/c.toml", "d/*.toml", "./d/../d/c.toml", "*.toml"]')
    assert included(tree) == ["d/c.toml", "d/a.toml", "d/b.toml", "upstreams.toml"]


def test_includes_may_be_absolute_and_below_any_directory(tree: Tree) -> None:
    tree.write("x/y/z/a.toml", "")
    tree.write(
        "gateway.toml",
        f'include = ["x/**/*.toml", "{tree.root}/upstreams.toml", "{tree.root}/up*.toml"]',
    )
    assert included(tree) == ["x/y/z/a.toml", "upstreams.toml"]


def test_includes_may_come_from_the_environment(tree: Tree) -> None:
    tree.environ = {"SITE": "d"}
    tree.write("d/a.toml", "")
    tree.write("gateway.toml", 'include = ["${SITE}/a.toml", "${NONE}/b.toml"]')
    assert included(tree) == ["d/a.toml"]
    assert read_problems(tree) == ["gateway.toml:1:30: error: the environment has no NONE"]


def test_files_are_told_apart_by_their_keys(tree: Tree) -> None:
    for key in ("name = 'x'", "request = []", "response = []", "error = []", "[[route]]"):
        tree.write("pipelines/x.toml", key)
        found = read_tree(tree.root / "gateway.toml", {})
        assert [document.file.name for document in found.pipelines] == ["x.toml"], key
    tree.write("pipelines/x.toml", "[upstream.x]")
    assert [
        document.file.name for document in read_tree(tree.root / "gateway.toml", {}).upstreams
    ] == [
        "upstreams.toml",
        "x.toml",
    ]


@pytest.mark.parametrize(
    ("what", "include", "problem"),
    [
        (
            "a file that is not there",
            "no.toml",
            "gateway.toml:2:3: error: the included file 'no.toml' does not exist",
        ),
        ("a directory", "d", "gateway.toml:2:3: error: the included file 'd' is not a file"),
        (
            "a pattern that matches nothing",
            "no/*.toml",
            "gateway.toml:2:3: warning: 'no/*.toml' matches no file",
        ),
        ("what is no path", "a\\u0000/*", "gateway.toml:2:3: error: 'a\\x00/*' is no path"),
    ],
)
def test_includes_that_are_wrong(tree: Tree, what: str, include: str, problem: str) -> None:
    (tree.root / "d").mkdir()
    tree.write("gateway.toml", f'include = ["upstreams.toml",\n  "{include}"]')
    assert read_problems(tree) == [problem], what
    assert included(tree) == ["upstreams.toml"]


def test_a_directory_that_a_pattern_matches_is_passed_over(tree: Tree) -> None:
    (tree.root / "d.toml").mkdir()
    tree.write("gateway.toml", 'include = ["d*.toml", "upstreams.toml"]')
    assert included(tree) == ["upstreams.toml"]
    assert read_problems(tree) == []


@pytest.mark.parametrize("include", ["5", '[5, ""]', "{ a = 1 }"])
def test_an_include_of_the_wrong_type_includes_nothing(tree: Tree, include: str) -> None:
    tree.write("gateway.toml", f"include = {include}")
    assert included(tree) == []


def test_gateway_toml_that_is_not_there(tmp_path: Path) -> None:
    found = read_tree(tmp_path / "gateway.toml", {})
    assert found.gateway is None
    (problem,) = found.problems.all()
    assert (problem.file, problem.message) == (
        tmp_path / "gateway.toml",
        "cannot be read: No such file or directory",
    )
    assert "gateway init" in problem.hint


@pytest.mark.parametrize(
    ("what", "raw", "problem"),
    [
        ("no TOML", b"[a]\nb = \n", "upstreams.toml:2:5: error: not TOML: invalid value"),
        (
            "a table twice",
            b"[a]\n[a]\n",
            "upstreams.toml:2:3: error: [a] is there twice",
        ),
        ("not UTF-8", b'a = 1\nb = "\xc3\xa9\xff"\n', "upstreams.toml:2:7: error: is not UTF-8"),
        ("not UTF-8 in the first line", b"a\xff = 1\n", "upstreams.toml:1:2: error: is not UTF-8"),
        (
            "too deep",
            b"a = " + b"[" * 5000 + b"]" * 5000,
            "upstreams.toml:1:105: error: not TOML: nests too deeply",
        ),
        (
            "too deep in the end",
            b"a = '[[['\n# [[[\nb = [\n" + b"{c = [" * 2500 + b"]}" * 2500 + b"]",
            "upstreams.toml:4:300: error: not TOML: nests too deeply",
        ),
        (
            "keys too deep",
            b"x = 1\n" + b"a." * 150 + b"a = 1",
            "upstreams.toml:2:201: error: nests more than 100 levels deep",
        ),
    ],
)
def test_files_that_are_no_toml(tree: Tree, what: str, raw: bytes, problem: str) -> None:
    (tree.root / "upstreams.toml").write_bytes(raw)
    assert read_problems(tree) == [problem], what


def test_what_the_parser_reads_may_still_be_too_deep_for_places(tree: Tree) -> None:
    for levels in range(100, 1000, 50):
        (tree.root / "upstreams.toml").write_text(f"a = {'[' * levels}{']' * levels}")
        for problem in read_problems(tree):
            assert problem in (
                "upstreams.toml:1:105: error: not TOML: nests too deeply",
                "upstreams.toml:1:105: error: nests more than 100 levels deep",
            )


@pytest.mark.parametrize(
    ("what", "text", "warned"),
    [
        ("in a URL", "http://$HOST:80/", True),
        ("by the name of a variable", "$NAME", True),
        ("in a password", "redis://:pa$word@host", True),
        ("any other", "$ref", False),
        ("with braces", "http://${NAME}/", False),
        ("no name", "http://a/$1$", False),
    ],
)
def test_variables_without_braces(tree: Tree, what: str, text: str, warned: bool) -> None:
    tree.environ = {"NAME": "edge"}
    tree.write("gateway.toml", f"[listen]\n  host = '{text}'\n")
    said = [
        (
            "gateway.toml:2:3: warning: a name after '$' is no variable without braces: it stays "
            "as "
            "it is"
        )
    ]
    assert read_problems(tree) == (said if warned else []), what


def test_an_include_may_be_one_string_from_the_environment(tree: Tree) -> None:
    tree.environ = {"FILES": "d/*.toml, upstreams.toml"}
    tree.write("d/a.toml", "")
    tree.write("gateway.toml", 'include = "${FILES}"')
    assert included(tree) == ["d/a.toml", "upstreams.toml"]


@pytest.mark.parametrize(
    ("include", "folder"), [("d/*.toml", "d"), ("*/e/*.toml", "d/e"), ("d/**/*.toml", "d/e")]
)
def test_a_folder_that_cannot_be_listed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, include: str, folder: str
) -> None:
    tree.write("d/e/a.toml", "")
    tree.write("gateway.toml", f'include = ["upstreams.toml", "{include}"]')
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path) == str(tree.root / folder):
            raise PermissionError(EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert read_problems(tree)[0] == (
        f"gateway.toml:1:30: error: '{include}': the folder {tree.root / folder} cannot be read: "
        f"Permission denied"
    )


def test_a_link_to_nothing_is_not_passed_over(tree: Tree) -> None:
    tree.pipeline("", "a")
    (tree.root / "pipelines" / "b.toml").symlink_to("nowhere")
    assert read_problems(tree) == [
        "gateway.toml:1:1: error: the included file 'pipelines/b.toml' does not exist"
    ]


def test_a_byte_order_mark_is_no_part_of_the_text(tree: Tree) -> None:
    (tree.root / "gateway.toml").write_bytes(b"\xef\xbb\xbflisten = { port = '${NONE}' }")
    assert read_problems(tree) == ["gateway.toml:1:12: error: the environment has no NONE"]


@pytest.mark.parametrize(
    ("what", "text", "known"),
    [
        ("a broken pipeline", 'request = [\n[[route]]\nupstream = "one"', True),
        ("a broken upstream", "[upstream.two]\nurl = ", False),
        ("one in other words", "upstream.two.url = ", False),
        ("one in quotes", "[ 'upstream' . two]\nurl = ", False),
        ("an inline one", "upstream = { two = ", False),
    ],
)
def test_whether_all_upstreams_are_known(tree: Tree, what: str, text: str, known: bool) -> None:
    tree.write("pipelines/x.toml", text)
    assert read_tree(tree.root / "gateway.toml", {}).upstreams_known is known, what


def test_a_missing_include_may_have_held_upstreams(tree: Tree) -> None:
    tree.write("gateway.toml", 'include = ["no.toml"]')
    assert not read_tree(tree.root / "gateway.toml", {}).upstreams_known


def test_a_file_that_may_not_be_read_may_have_held_upstreams(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "upstreams.toml":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = read_tree(tree.root / "gateway.toml", {})
    assert not found.upstreams_known
    assert [problem.message for problem in found.problems.all()] == [
        "cannot be read: Permission denied"
    ]


def test_a_document_knows_places(tmp_path: Path) -> None:
    document = Document(tmp_path, Problems(), {}, {("a",): (2, 1), ("a", "b"): (3, 5)})
    assert document.place(("a", "b")) == (3, 5)
    assert document.place(("a", "c", 0)) == (2, 1)
    assert document.place(("x",)) == (1, 1)
    assert [document.depth(path) for path in ((), ("a",), ("a", "b", "c"), ("x", "y"))] == [
        0,
        1,
        2,
        0,
    ]
