"""Keys of a file: what is remembered of them, and that changes count at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.credentials.api_keys import key_file, key_ring
from gateway.credentials.api_keys.key_file import Key, digest
from tests.unit.middlewares.auth.keys import (
    ENDING,
    GOOD,
    KEYS,
    NOW,
    OTHER,
    REVOKED,
    UNKNOWN,
    Hook,
    Keys,
    asked,
    entry,
    refused,
)


@pytest.fixture
def world(tmp_path: Path) -> Keys:
    (tmp_path / "keys.toml").write_text(KEYS)
    return Keys(tmp_path)


class TestMemory:
    def test_a_key_is_hashed_once_in_five_minutes(
        self, world: Keys, monkeypatch: pytest.MonkeyPatch
    ):
        hook, hashed = world.auth(), []
        monkeypatch.setattr(key_file, "digest", lambda key: hashed.append(key) or digest(key))
        for key, good in ((GOOD, True), (UNKNOWN, False)):
            for seconds, times in ((0, 1), (299.9, 1), (300, 2), (599, 2)):
                world.now = NOW + seconds
                hook(asked(key)) if good else refused(hook, asked(key))
                assert hashed.count(key) == times

    def test_guesses_do_not_grow_it(self, world: Keys, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(key_ring, "UNKNOWN", 10)
        monkeypatch.setattr(key_ring, "KNOWN", 2)
        hook = world.auth()
        ring = hook.__self__._methods[0]._ring  # type: ignore[attr-defined]
        for number in range(45):
            refused(hook, asked(f"guess {number}"))
            assert len(ring._wrong) <= 10
        for key in (GOOD, OTHER, ENDING, GOOD):
            hook(asked(key))
            assert len(ring.good) <= 2
        refused(hook, asked("x" * 300))
        assert not any(len(key) > 256 for key in ring._wrong)

    def test_no_key_in_any_repr(self, world: Keys):
        hook = world.auth()
        hook(asked(GOOD))
        shown = repr(hook)
        assert (
            "<Auth auth (<ApiKeys X-API-Key <KeyRing 5 keys>>,)>" in shown and GOOD[4:] not in shown
        )

    def test_routes_and_reloads_share_it_until_the_roles_change(self, world: Keys):
        def ring(hook: Hook) -> object:
            return hook.__self__._methods[0]._ring  # type: ignore[attr-defined]

        first = ring(world.auth())
        assert ring(world.auth({"require": ["x"]}, route="cameras")) is first
        world.reload()
        assert ring(world.auth()) is first
        assert ring(world.auth({"roles": {"operator": ["x"]}})) is not first

    def test_a_reload_revokes(self, world: Keys):
        world.auth()(asked(GOOD))
        world.reload()
        (world.directory / "keys.toml").write_text(entry("k_good", GOOD, revoked="true"))
        hook = world.auth()
        hook(asked(GOOD))  # what is only being built changes nothing
        world.reload()
        assert refused(hook, asked(GOOD)).detail == "The API key has been revoked."

    def test_a_reload_that_revokes_is_logged_as_well(
        self, world: Keys, caplog: pytest.LogCaptureFixture
    ):
        world.auth()
        world.reload()
        (world.directory / "keys.toml").write_text(
            (world.directory / "keys.toml").read_text() + entry("k_new", UNKNOWN, "new")
        )
        with caplog.at_level("INFO", "gateway.auth"):
            for _ in range(3):  # the file is used by several routes
                world.auth()
            assert caplog.records == []
            world.reload()
        assert [record.getMessage() for record in caplog.records] == ["key k_new of new: created"]

    async def test_a_reload_does_not_bring_back_what_the_watch_has_seen_go(self, world: Keys):
        hook = world.auth()
        world.reload()
        again = world.auth()  # a reload reads the file, and then takes its time
        (world.directory / "keys.toml").write_text(entry("k_good", GOOD, revoked="true"))
        ring = again.__self__._methods[0]._ring  # type: ignore[attr-defined]
        assert await ring._watched.look()
        world.reload()
        assert refused(hook, asked(GOOD)).detail == "The API key has been revoked."

    async def test_what_changes_is_logged(self, world: Keys, caplog: pytest.LogCaptureFixture):
        ring = world.auth().__self__._methods[0]._ring  # type: ignore[attr-defined]
        text = (
            entry("k_good", GOOD, revoked="true")
            + entry("k_other", OTHER, "bert", tier='"gold"')
            + entry("k_new", UNKNOWN, "new")
        )
        (world.directory / "keys.toml").write_text(text)
        with caplog.at_level("INFO", "gateway.auth"):
            await ring._watched.look()
        assert [record.getMessage() for record in caplog.records] == [
            "key k_good of acme: revoked",
            "key k_other of bert: changed",
            "key k_new of new: created",
            "key k_ending of acme: removed",
            "key k_expired of acme: removed",
            "key k_revoked of acme: removed",
        ]
        ring.close()

    def test_guesses_are_compared_by_their_hash_alone(self, world: Keys):
        """So how long a comparison takes tells nothing of how much of a guess was right."""
        ring = world.auth().__self__._methods[0]._ring  # type: ignore[attr-defined]
        assert {type(stored) for stored in ring._by_digest} == {bytes} and {
            len(stored) for stored in ring._by_digest
        } == {32}
        assert ring.good == {}

    async def test_a_changed_file_is_followed(self, world: Keys):
        hook = world.auth()
        ring = hook.__self__._methods[0]._ring  # type: ignore[attr-defined]
        hook(asked(GOOD))
        refused(hook, asked(UNKNOWN))
        (world.directory / "keys.toml").write_text(
            entry("k_good", GOOD, revoked="true") + entry("k_new", UNKNOWN, "new")
        )
        await ring._watched.look()
        assert refused(hook, asked(GOOD)).detail == "The API key has been revoked."
        hook(asked(UNKNOWN))
        (world.directory / "keys.toml").write_text("[[key]]")
        await ring._watched.look()
        hook(asked(UNKNOWN))
        ring.close()

    def test_uses_are_noted(self, world: Keys):
        hook = world.auth()
        ring = hook.__self__._methods[0]._ring  # type: ignore[attr-defined]
        for seconds in (0, 10, 300.5):
            world.now = NOW + seconds
            hook(asked(GOOD))
        refused(hook, asked(REVOKED))
        assert ring._used._noted == {"k_good": int(NOW) + 300}


def test_very_many_keys_are_compared_before_they_are_taken(monkeypatch: pytest.MonkeyPatch):
    """All of it but the taking can be done in a thread."""
    monkeypatch.setattr(key_ring, "FEW", 2)

    def keys(*clients: str) -> tuple[Key, ...]:
        text = "".join(
            f'[[key]]\nid = "k_{number}"\nclient = "{client}"\nhash = "sha256:{number:064x}"\n'
            for number, client in enumerate(clients)
        )
        return key_file.parse(text, Path("keys.toml"))

    ring = key_ring.KeyRing(keys("a", "b", "c"), {})
    published: list[tuple[str, ...]] = []
    monkeypatch.setattr(type(ring.changes), "publish", lambda _, *change: published.append(change))
    ring._follow(keys("a", "x", "c", "d"))
    assert published == [("changed", "k_1", "x"), ("created", "k_3", "d")]
    ring._follow(keys("a"))
    assert sorted(published[2:]) == [
        ("removed", "k_1", "x"), ("removed", "k_2", "c"), ("removed", "k_3", "d"),
    ]  # fmt: skip
    assert repr(ring) == "<KeyRing 1 keys>"
