"""The file of users: what makes no sense in it, and adding to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from tests.unit.middlewares.auth.test_basic import HASH, USERS


class TestFile:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x", "is not TOML"),
            ("user = 1", "must be an array of tables"),
            (USERS + USERS, "there are two users alice"),
            ("[[user]]\nhash = 'x'", "user 1: name must be"),
            ("[[user]]\nname = 'a:b'\nhash = 'x'", "must not hold a colon"),
            ("[[user]]\nname = 'a'\nhash = 'x'", "hash is not one of argon2 or bcrypt"),
            ("[[user]]\nname = 'a'", "hash must be"),
            (
                f"[[user]]\nname = 'a'\nhash = '{HASH.replace('argon2id', 'argon2d')}'",
                "must be of argon2id",
            ),
            (
                f"[[user]]\nname = 'a'\nhash = '$2x$04${'A' * 53}'",
                "must be of bcrypt 2a, 2b or 2y, with a cost from 4 to 18",
            ),
            (f"[[user]]\nname = 'a'\nhash = '$2b$19${'A' * 53}'", "with a cost from 4 to 18"),
            (f"[[user]]\nname = 'a'\nhash = '$2b$03${'A' * 53}'", "with a cost from 4 to 18"),
            (f"[[user]]\nname = 'a'\nhash = '$2b$04${'A' * 52}'", "must be of bcrypt"),
            (f"[[user]]\nname = 'a'\nhash = '{HASH}'\nroles = ['a,b']", "each of roles"),
            (f"[[user]]\nname = 'a'\nhash = '{HASH}'\npermissions = 'a'", "each of permissions"),
            (
                f"[[user]]\nname = 'a'\nhash = '{HASH}'\npassword = 'a'",
                "a key password that means nothing",
            ),
        ],
    )
    def test_that_makes_no_sense(self, tmp_path: Path, text: str, message: str):
        (tmp_path / "users.toml").write_text(text)
        with pytest.raises(CredentialError, match=message):
            user_file.load(tmp_path / "users.toml")

    def test_adding(self, tmp_path: Path):
        path = tmp_path / "users.toml"
        user_edits.add(
            path,
            User(
                "alice",
                user_file.hashed("p4ssw0rd"),
                "acme",
                "gold",
                frozenset({"r"}),
                frozenset({"p:*"}),
            ),
        )
        user_edits.add(path, User("bob", user_file.hashed("other")))
        alice, bob = user_file.load(path).values()
        assert (alice.client, alice.tier, alice.roles, alice.permissions) == (
            "acme",
            "gold",
            {"r"},
            {"p:*"},
        )
        assert (
            bob.client == "bob"
            and user_file.verifies(alice.hash, "p4ssw0rd")
            and not user_file.verifies(bob.hash, "password")
        )
        assert "p4ssw0rd" not in path.read_text() and alice.hash not in repr(alice)
        for user, message in ((bob, "a user bob already"), (replace(bob, name="a:b"), "colon")):
            with pytest.raises(CredentialError, match=message):
                user_edits.add(path, user)
        with pytest.raises(CredentialError, match="cannot write in"):
            user_edits.add(tmp_path / "none" / "users.toml", User("a", user_file.hashed("x")))
        with pytest.raises(CredentialError, match="cannot read"):
            user_file.load(tmp_path)
