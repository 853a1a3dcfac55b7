from __future__ import annotations

import json
import logging
from pathlib import Path

from gateway.credentials.api_keys.last_use import KeyUse, beside, read
from tests.until import until


async def test_written_after_a_while(tmp_path: Path):
    use = KeyUse(tmp_path / "keys.toml", every=0.005)
    use.note("k_1", 100.9)
    use.note("k_2", 200.0)
    use.note("k_1", 300.0)
    await until(lambda: read(tmp_path / ".keys.toml.used"))
    assert read(beside(tmp_path / "keys.toml")) == {"k_1": 300, "k_2": 200}
    use.close()


async def test_written_at_the_end_and_the_latest_counts(tmp_path: Path):
    file = beside(tmp_path / "keys.toml")
    file.write_text('{"k_1": 500, "k_3": 7, "k_4": "soon"}')
    use = KeyUse(tmp_path / "keys.toml")
    use.note("k_1", 400)
    use.note("k_2", 600)
    use.close()
    assert json.loads(file.read_text()) == {"k_1": 500, "k_2": 600, "k_3": 7}
    assert file.stat().st_mode & 0o077 == 0


def test_nothing_noted_nothing_written(tmp_path: Path):
    use = KeyUse(tmp_path / "keys.toml")
    use.close()
    assert list(tmp_path.iterdir()) == []


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch):
    use = KeyUse(tmp_path / "keys.toml", every=0.005)
    failures = iter([MemoryError, MemoryError])
    write = use._write

    def failing(noted: dict[str, int]) -> None:
        for failure in failures:
            raise failure
        write(noted)

    monkeypatch.setattr(use, "_write", failing)
    use.note("k_1", 100)
    await until(lambda: read(tmp_path / ".keys.toml.used"))
    assert read(beside(tmp_path / "keys.toml")) == {"k_1": 100}
    use.close()


async def test_a_place_that_cannot_be_written_to(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        use = KeyUse(tmp_path / "none" / "keys.toml")
        use.note("k_1", 1)
        use.close()
        use._write({})
    assert caplog.text.count("is not written down: cannot write in") == 2


def test_what_makes_no_sense_is_nothing(tmp_path: Path):
    (tmp_path / "used").write_text("[1]")
    assert read(tmp_path / "used") == {}
    (tmp_path / "used").write_text("{")
    assert read(tmp_path / "used") == {} == read(tmp_path / "none")
