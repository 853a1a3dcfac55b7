from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials.api_keys.key_file import Key, digest, load, mistyped, parse, with_checksum
from gateway.credentials.files import CredentialError

HASH = "sha256:" + "ab" * 32
FILE = Path("keys.toml")


def table(**changes: str) -> str:
    """A `[[key]]` that is right but for the changes, which are TOML."""
    fields = {"id": '"k_1"', "client": '"acme"', "hash": f'"{HASH}"', **changes}
    return "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value)


def test_everything_a_key_may_hold():
    text = f"""
        title = "other things may stand here"
        [[key]]
        id = "k_1"
        client = "acme"
        tier = "premium"
        permissions = ["cameras:*", "analytics:read"]
        roles = ["operator"]
        label = "its staging"
        hash = "sha256:{"AB" * 32}"
        hint = "bec_12"
        created = 2026-01-31T09:30:00Z
        expires = 2026-04-30T02:00:00+02:00
        revoked = 2026-02-14T12:00:00Z
        replaced_by = "k_2"
        contact = {{ mail = "unknown keys are left alone" }}
    """
    assert parse(text, FILE) == (
        Key(
            "k_1",
            "acme",
            bytes.fromhex("ab" * 32),
            tier="premium",
            permissions=frozenset({"cameras:*", "analytics:read"}),
            roles=frozenset({"operator"}),
            label="its staging",
            hint="bec_12",
            created=datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp(),
            expires=datetime(2026, 4, 30, tzinfo=UTC).timestamp(),
            revoked=True,
            replaced_by="k_2",
        ),
    )


def test_the_least_a_key_may_hold():
    assert parse(table(), FILE) == (Key("k_1", "acme", bytes.fromhex("ab" * 32)),)
    assert parse("", FILE) == ()


@pytest.mark.parametrize("written", ["2026-04-30T00:00:00Z", "2026-04-30", "2026-04-30T00:00:00"])
def test_times_without_an_offset_are_utc(written: str):
    assert (
        parse(table(expires=written), FILE)[0].expires
        == datetime(2026, 4, 30, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    ("changes", "now", "state"),
    [
        ({}, 10**11, "active"),
        ({"expires": "1970-01-01T00:01:40Z"}, 99.9, "active"),
        ({"expires": "1970-01-01T00:01:40Z"}, 100, "expired"),
        ({"revoked": "1970-01-01T00:01:40Z"}, 200, "revoked"),
        ({"revoked": "1970-01-01T00:01:40Z"}, 50, "revoked"),
        ({"revoked": "true", "expires": "1970-01-01T00:01:40Z"}, 200, "revoked"),
        ({"revoked": "false"}, 200, "active"),
    ],
)
def test_state(changes: dict[str, str], now: float, state: str):
    assert parse(table(**changes), FILE)[0].state(now) == state


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[key]", "keys.toml is not TOML"),
        ("key = 3", "must be an array of tables"),
        ("key = [3]", "must be an array of tables"),
        (table(id=""), "key number 1: id is missing"),
        (table(id="7"), "key number 1: id must be visible"),
        (table(client=""), "key k_1: client is missing"),
        (table(client='""'), "key k_1: client must be visible ASCII"),
        (table(client='"a\\r\\nX-Evil: 1"'), "key k_1: client must be visible ASCII"),
        (table(client='"Müller"'), "key k_1: client must be visible ASCII"),
        (table(tier="3"), "key k_1: tier must be visible ASCII"),
        (table(hash=""), "key k_1: hash is missing"),
        (table(hash='"md5:00"'), 'key k_1: hash must be "sha256:"'),
        (table(permissions='"cameras:read"'), "permissions must be an array"),
        (table(permissions='["cam*"]'), "permissions holds 'cam*', which must be a word"),
        (table(permissions="[3]"), "permissions holds 3, which"),
        (table(roles='["a,b"]'), "roles holds 'a,b', which must be a word"),
        (table(expires='"2026-04-30"'), "expires must be a date and time such as"),
        (table(revoked='"yes"'), "revoked must be a date and time, or true"),
        (table() + table(id='"k_2"'), "k_1 of acme and k_2 of acme have the same hash"),
        (
            table() + table(hash=f'"sha256:{"cd" * 32}"'),
            "k_1 of acme and k_1 of acme have the same id",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str):
    with pytest.raises(CredentialError) as caught:
        parse(text, FILE)
    assert said in str(caught.value)
    assert "ab" * 32 not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(CredentialError) as caught:
        parse(table(client="", tier="1") + table(id='"k_2"', roles="2"), FILE)
    assert str(caught.value).count(";") == 2
    assert all(word in str(caught.value) for word in ("client", "tier", "roles"))


@pytest.mark.parametrize(
    ("permission", "fine"),
    [
        ("*", True),
        ("cameras:*", True),
        ("cameras:read", True),
        ("a.b-c/d", True),
        ("**", False),
        ("*:read", False),
        ("a:*:b", False),
    ],
)
def test_permissions(permission: str, fine: bool):
    text = table(permissions=f'["{permission}"]')
    if fine:
        assert parse(text, FILE)[0].permissions == {permission}
    else:
        with pytest.raises(CredentialError):
            parse(text, FILE)


def test_files(tmp_path: Path):
    path = tmp_path / "keys.toml"
    with pytest.raises(CredentialError, match="there is no key file"):
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(CredentialError, match="not UTF-8"):
        load(path)
    path.write_text(table())
    assert [key.id for key in load(path)] == ["k_1"]
    with pytest.raises(CredentialError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)


def test_no_hash_in_a_repr():
    assert "digest" not in repr(parse(table(), FILE)[0])


def test_digest():
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest("\udcff") != digest("\udcfe")


class TestChecksum:
    def test_ours_have_one(self):
        key = with_checksum("bec_" + "0" * 56)
        assert key == "bec_" + "0" * 56 + "a6861eeb" and not mistyped(key)

    @given(
        st.text("0123456789abcdef", min_size=56, max_size=56),
        st.integers(0, 63),
        st.sampled_from("0123456789abcdef"),
    )
    def test_one_wrong_digit_is_always_seen(self, digits: str, at: int, digit: str):
        key = with_checksum("bec_" + digits)
        bent = key[: 4 + at] + digit + key[5 + at :]
        assert mistyped(bent) is (bent != key)

    @pytest.mark.parametrize(
        "text", ["", "guess", "bec_" + "0" * 63, "bec_" + "0" * 63 + "g", "b c_" + "0" * 64]
    )
    def test_nothing_is_said_of_others(self, text: str):
        assert not mistyped(text)


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ("'10.0.0.0/8'", "must be an array"),
        ("[7]", "holds 7"),
        ("['10.0.0.1/8']", "no bits set beyond the prefix"),
    ],
)
def test_networks(tmp_path: Path, networks: str, message: str):
    text = f"[[key]]\nid = 'k'\nclient = 'a'\nhash = 'sha256:{'0' * 64}'\nnetworks = "
    assert parse(text + "['10.0.0.0/8', '::1']", tmp_path)[0].networks == ("10.0.0.0/8", "::1")
    with pytest.raises(CredentialError, match=message):
        parse(text + networks, tmp_path)
