"""Own keys: which may be seen and changed by whom, against a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.builtins.portal.keys import MOST_ACTIVE, InFile, OwnKeys
from gateway.core.exchange import Identity
from gateway.core.failures import Failed
from gateway.core.identities import identity
from gateway.credentials.api_keys import key_edits, key_file
from gateway.credentials.api_keys.new_keys import Wish

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def make(path: Path, client: str = "acme", **more: Any) -> str:
    """Add a key; return its id."""
    return key_edits.create(path, Wish(client, **more), NOW)[0].id


def caller(id: str, *permissions: str, **more: Any) -> Identity:
    claims = {"key": id}
    method = more.pop("method", "api_key")
    return identity("acme", method, {}, permissions=frozenset(permissions), claims=claims, **more)


def keys(path: Path, overlap: float = 3600.0) -> OwnKeys:
    return OwnKeys(InFile(path), overlap)


async def test_what_is_shown(path: Path):
    first = make(path, label="old", permissions=("a:read",))
    make(path, "other")
    second = make(path, expires=NOW - 1)
    shown = await keys(path).shown(caller(first, "a:*"), NOW)
    assert {
        one["id"]: (one["own"], one["changes"], one["state"], one["label"]) for one in shown
    } == {
        first: (True, True, "active", "old"),
        second: (False, False, "expired", ""),
    }
    assert "hash" not in str(shown)


@pytest.mark.parametrize(
    ("key", "who", "said"),
    [
        ({"permissions": ("a:write",)}, {"permissions": ("a:read",)}, "may do more"),
        ({"permissions": ("*",)}, {"permissions": ("a:*",)}, "may do more"),
        ({"roles": ("admin",)}, {}, "may do more"),
        ({"tier": "premium"}, {"tier": "free"}, "may do more"),
        ({}, {"method": "jwt"}, "logged in with one of them"),
        ({"expires": NOW - 1}, {}, "is expired"),
        ({"permissions": ("a:read",)}, {"permissions": ("a:*",)}, ""),
        ({"roles": ("admin",)}, {"roles": frozenset({"admin", "more"})}, ""),
        ({}, {"tier": "free"}, ""),
    ],
)
@pytest.mark.parametrize("action", ["rotate", "revoke"])
async def test_who_may_change_a_key(
    path: Path, key: dict[str, Any], who: dict[str, Any], said: str, action: str
):
    id, own = make(path, **key), keys(path)
    who = dict(who)
    asking = caller("k_mine", *who.pop("permissions", ()), **who)
    more = (60.0,) if action == "rotate" else ()
    before = path.read_text()
    if said:
        with pytest.raises(Failed, match=said):
            await getattr(own, action)(asking, id, *more, NOW)
        assert path.read_text() == before
    else:
        await getattr(own, action)(asking, id, *more, NOW)
        assert path.read_text() != before


async def test_a_rotated_key_goes_on_for_the_overlap_at_most(path: Path):
    id = make(path, permissions=("a",))
    new, secret, old = await keys(path, 100.0).rotate(caller(id, "a"), id, 1e9, NOW)
    assert (old.expires, old.replaced_by, new.permissions) == (NOW + 100, new.id, {"a"})
    assert key_file.load(path)[1].digest == key_file.digest(secret)
    with pytest.raises(Failed, match=f"has been replaced by {new.id}"):
        await keys(path).rotate(caller(id, "a"), id, 1, NOW)


async def test_rotating_makes_no_endless_number_of_keys(path: Path):
    ids = [make(path) for _ in range(MOST_ACTIVE)]
    with pytest.raises(Failed, match="revoke one first"):
        await keys(path).rotate(caller(ids[0]), ids[0], 0, NOW)
    await keys(path).revoke(caller(ids[0]), ids[1], NOW)
    await keys(path).rotate(caller(ids[0]), ids[0], 0, NOW)


async def test_a_file_that_is_away(path: Path):
    with pytest.raises(Failed, match="key file") as caught:
        await keys(path).shown(caller("k"), NOW)
    assert caught.value.failure.status == 503 and str(path) not in caught.value.detail
