"""What a new API key is: made from a wish, shown once, kept as a hash."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.credentials.api_keys import key_file
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.new_keys import Wish, check, make, successor
from gateway.credentials.files import CredentialError

NOW = 1_700_000_000.0


def key(**more: object) -> Key:
    given = {
        "id": "k_1",
        "client": "acme",
        "digest": b"",
        "permissions": frozenset("ba"),
        "created": NOW - 100,
        **more,
    }
    names = Key.__dataclass_fields__
    assert set(given) <= set(names)
    return Key(**given)  # type: ignore[arg-type]


def test_a_key_is_nowhere_in_its_table():
    table, secret = make(Wish("acme", "gold", ("a:read",), ("op",), "CI"), NOW, "bec_", None)
    assert secret.startswith("bec_") and len(secret) == 68
    assert table == {
        "id": table["id"],
        "client": "acme",
        "tier": "gold",
        "permissions": ["a:read"],
        "roles": ["op"],
        "label": "CI",
        "hash": f"sha256:{key_file.digest(secret).hex()}",
        "hint": secret[:8],
        "created": datetime.fromtimestamp(NOW, UTC),
    }
    assert make(Wish("acme"), NOW, "bec_", None)[1] != secret


def test_what_is_empty_is_left_out():
    table, _ = make(Wish("acme", expires=NOW + 60), NOW, "", None)
    assert list(table) == ["id", "client", "hash", "hint", "created", "expires"]
    assert table["expires"] == datetime.fromtimestamp(NOW + 60, UTC)


@pytest.mark.parametrize(("existing", "hint"), [("x" * 16, "xxxx"), ("x" * 32, "x" * 8)])
def test_an_existing_key_is_taken_over_and_hardly_shown(existing: str, hint: str):
    table, secret = make(Wish("acme"), NOW, "", existing)
    assert (secret, table["hint"]) == (existing, hint)


def test_ids_that_are_taken_are_not_given_again():
    class Taken:
        asked = 0

        def __contains__(self, id: object) -> bool:
            self.asked += 1
            return self.asked < 3

    taken = Taken()
    make(Wish("acme"), NOW, "", None, taken)
    assert taken.asked == 3


@pytest.mark.parametrize(
    ("wish", "prefix", "existing", "why"),
    [
        (Wish(""), "", None, "client ''"),
        (Wish("a\n"), "", None, "client"),
        (Wish("acme", "a b\n"), "", None, "tier"),
        (Wish("acme", permissions=("a b",)), "", None, "permission 'a b'"),
        (Wish("acme", roles=("a,b",)), "", None, "role 'a,b'"),
        (Wish("acme", networks=("10.0.0.1/8",)), "", None, "10.0.0.1/8"),
        (Wish("acme", limit="1 a"), "", None, "limit '1 a'"),
        (Wish("acme", label="a\nb"), "", None, "one line of text"),
        (Wish("acme"), "b c", None, "prefix"),
        (Wish("acme"), "", "x" * 15, "16 or more"),
        (Wish("acme"), "", "x" * 16 + " ", "no spaces"),
        (Wish("acme"), "", "ä" * 16, "visible ASCII"),
    ],
)
def test_wishes_that_cannot_be(wish: Wish, prefix: str, existing: str | None, why: str):
    with pytest.raises(CredentialError, match=why):
        check(wish, prefix, existing)


def test_a_successor_is_like_the_one_it_replaces():
    wish, ends = successor(key(expires=NOW + 50, roles=frozenset({"op"})), NOW, 3600.0, "same")
    assert wish == Wish("acme", "", ("a", "b"), ("op",), "", NOW + 150)
    assert ends == datetime.fromtimestamp(NOW + 50, UTC)  # no later than it was meant to
    wish, ends = successor(key(), NOW, 3600.0, None)
    assert wish.expires is None and ends == datetime.fromtimestamp(NOW + 3600, UTC)


@pytest.mark.parametrize(
    ("more", "why"),
    [({"revoked": NOW}, "was revoked"), ({"replaced_by": "k_2"}, "k_2 replaces it")],
)
def test_what_is_over_has_no_successor(more: dict[str, object], why: str):
    with pytest.raises(CredentialError, match=why):
        successor(key(**more), NOW, 0.0, None)
