"""`gateway init` makes what `check` accepts, says what comes next, and never overwrites."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from gateway.runtime.check import check

OPENAPI = """
{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/pets/{id}": {
  "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
  "get": {"responses": {"200": {"description": "a pet"}}}}}}
"""


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        assert main(["init", *words]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def made(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_it_makes_is_accepted_without_a_warning(init, tmp_path: Path):
    told = init()
    assert made(tmp_path) == {
        "gateway.toml",
        "upstreams.toml",
        "keys.toml",
        "pipelines/partner.toml",
    }
    assert check(tmp_path / "gateway.toml", {}).warnings == ()
    assert [line.split()[:2] for line in told.splitlines()[-3:]] == [
        ["gateway", "keys"],
        ["gateway", "check"],
        ["gateway", "run"],
    ]
    assert (tmp_path / "keys.toml").stat().st_mode & 0o077 == 0


def test_the_group_of_a_setgid_directory_may_read_its_keys(init, tmp_path: Path):
    tmp_path.chmod(0o2750)
    init()
    assert (tmp_path / "keys.toml").stat().st_mode & 0o777 == 0o640


def test_its_next_commands_work(init, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = init("--upstream", "http://10.0.0.7:8000")
    first, second, _ = [line.split("  ")[1].strip() for line in told.splitlines()[-3:]]
    assert main(first.split()[1:]) == 0
    assert "bec_" in capsys.readouterr().out
    assert main(second.split()[1:]) == 0
    loaded = check(tmp_path / "gateway.toml", {})
    assert [one.url for one in loaded.upstreams["app"].endpoints] == ["http://10.0.0.7:8000"]


def test_elsewhere(init, tmp_path: Path):
    assert "Next, in shop/edge:" in init("shop/edge")
    assert check(tmp_path / "shop" / "edge" / "gateway.toml", {}).warnings == ()


def test_routes_of_a_document(init, tmp_path: Path):
    (tmp_path / "api.json").write_text(OPENAPI)
    init("shop", "--openapi", "api.json")
    loaded = check(tmp_path / "shop" / "gateway.toml", {})
    assert loaded.warnings == ()
    paths = [route.path for pipeline in loaded.pipelines for route in pipeline.routes]
    assert "/pets/{id}" in paths and "/" not in paths


@pytest.mark.parametrize(
    "name", ["gateway.toml", "upstreams.toml", "keys.toml", "pipelines/partner.toml"]
)
def test_it_never_overwrites(init, tmp_path: Path, name: str):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert "already; nothing was written" in init(code=1)
    assert made(tmp_path) == {name} and path.read_text() == "mine"


def test_a_document_that_is_none_leaves_nothing_behind(init, tmp_path: Path):
    (tmp_path / "api.json").write_text("{}")
    assert "partner.toml" in init("shop", "--openapi", "api.json", code=1)
    assert made(tmp_path) == {"api.json"}
    assert "there is no file none.json" in init("--openapi", "none.json", code=1)


def test_where_nothing_may_be_written(init, tmp_path: Path):
    (tmp_path / "file").touch()
    assert "cannot write file/" in init("file", code=1)


def test_an_upstream_that_is_no_url(init, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        init("--upstream", "localhost:3001")
    assert ended.value.code == 2
    assert "must be a URL such as" in capsys.readouterr().err
