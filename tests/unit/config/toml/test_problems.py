import os
from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors, Problem, Problems, nearest, shown_path


def test_a_problem_is_a_line_to_jump_to() -> None:
    problem = Problem(Path("/etc/gateway.toml"), 3, 7, "listen.port: is odd")
    assert str(problem) == "/etc/gateway.toml:3:7: error: listen.port: is odd"


def test_a_hint_and_a_warning_are_told() -> None:
    problem = Problem(Path("/etc/gateway.toml"), 3, 7, "is odd", "make it even", "warning")
    assert str(problem) == "/etc/gateway.toml:3:7: warning: is odd (hint: make it even)"


def test_paths_below_the_working_directory_are_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b.toml") == os.path.join("a", "b.toml")
    assert shown_path(tmp_path.parent / "b.toml") == str(tmp_path.parent / "b.toml")
    monkeypatch.chdir("/")
    assert shown_path(tmp_path / "b.toml") == str(tmp_path / "b.toml")


def test_paths_are_shown_whole_when_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shown_path(gone / "b.toml") == str(gone / "b.toml")


def test_problems_are_sorted_and_counted_once() -> None:
    problems = Problems()
    first, second, third = (
        Problem(Path(file), line, 1, "x") for file, line in (("/a", 2), ("/a", 10), ("/b", 1))
    )
    warning = Problem(Path("/a"), 1, 1, "y", severity="warning")
    for problem in (third, second, first, second, warning):
        problems.add(problem)
    assert problems.all() == (warning, first, second, third)
    assert problems.of("error") == (first, second, third)
    assert problems.of("warning") == (warning,)


def test_the_exception_says_everything_and_tells_errors_apart() -> None:
    error, warning = (
        Problem(Path("/a"), 1, 1, "bad"),
        Problem(Path("/a"), 2, 1, "odd", severity="warning"),
    )
    raised = ConfigErrors([error, warning])
    assert str(raised) == f"{error}\n{warning}"
    assert raised.problems == (error, warning)
    assert raised.errors == (error,)


@pytest.mark.parametrize(
    ("what", "word", "known", "hint"),
    [
        ("a slip", "limt", ("limit", "window"), "did you mean 'limit'?"),
        ("nothing like it", "zebra", ("window", "limit"), "known: limit, window"),
        ("too many to list", "zebra", [f"limit{number}" for number in range(17)], ""),
        ("nothing known", "zebra", (), ""),
    ],
)
def test_nearest(what: str, word: str, known: tuple[str, ...], hint: str) -> None:
    assert nearest(word, known) == hint, what
