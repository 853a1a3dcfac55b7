from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gateway.credentials import files
from gateway.credentials.api_keys.key_edits import create
from gateway.credentials.api_keys.key_file import load
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.files import CredentialError

NOW = 1_700_000_000.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.mark.parametrize(
    "text",
    ["[[a]]\nx = 1\n", "[[a]]\nx = 1", "[[a]]\nx = 1\n\n", "# c", "", "[[a]]\nx = 1\n[[a.b]]\n"],
)
def test_what_is_appended_stands_apart(path: Path, text: str):
    path.write_text(text)
    for number in (2, 3):
        files.edit(
            path,
            lambda document, x=number: files.append(document, "a", {"x": x}),
            lambda text: None,
        )
    separated = f"{text.strip()}\n\n" if text else ""
    assert path.read_text() == separated + "[[a]]\nx = 2\n\n[[a]]\nx = 3\n"


def test_a_byte_order_mark_is_read_over(path: Path):
    path.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert files.parse(files.read(path), path) == {"x": 1}


class TestWriting:
    def test_writers_wait_for_one_another(self, path: Path):
        failures: list[BaseException] = []

        def work(name: str) -> None:
            try:
                for _ in range(5):
                    create(path, Wish(name), NOW)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(f"client {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(load(path)) == 20

    @pytest.mark.parametrize("step", ["fsync", "chown"])
    def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ):
        create(path, Wish("a"), NOW)
        before = path.read_text()

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, step, fail)
        if step == "chown":  # not ours to give away, and no reason to fail
            create(path, Wish("b"), NOW)
            assert len(load(path)) == 2
        else:
            with pytest.raises(CredentialError, match="No space left"):
                create(path, Wish("b"), NOW)
            assert path.read_text() == before
        assert sorted(name.name for name in path.parent.iterdir()) == [
            ".keys.toml.lock",
            "keys.toml",
        ]

    def test_a_link_stays_a_link(self, tmp_path: Path, path: Path):
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real" / "keys.toml")
        create(path, Wish("a"), NOW)
        assert path.is_symlink() and load(tmp_path / "real" / "keys.toml")[0].client == "a"

    def test_no_such_directory(self, tmp_path: Path):
        with pytest.raises(CredentialError, match=r"cannot write in .*: No such file"):
            create(tmp_path / "nowhere" / "keys.toml", Wish("a"), NOW)

    def test_readers_never_see_half_a_file(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        create(path, Wish("a"), NOW)
        before, seen = path.read_text(), []
        fsync = os.fsync

        def look(descriptor: int) -> None:
            seen.append(path.read_text())
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", look)
        create(path, Wish("b"), NOW)
        assert seen == [before, path.read_text()]


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path):
    path, read = tmp_path / "keys.toml", []
    path.write_text("one")

    def reading(path: Path) -> str:
        read.append(path)
        return path.read_text()

    seen, first = files.load_once(path, reading)
    assert (files.load_once(path, reading), first) == ((seen, first), "one")
    path.write_text("another")
    assert files.load_once(path, reading)[1] == "another" and len(read) == 2
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.load_once(path, reading)
