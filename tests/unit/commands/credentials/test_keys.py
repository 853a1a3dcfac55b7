from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from gateway.commands.credentials import key_places, keys
from gateway.credentials.api_keys import last_use
from gateway.credentials.api_keys.key_file import load
from tests.unit.commands.credentials.shell import NOW, SECRET, Shell


class TestCreate:
    def test_shows_the_key_once_and_what_comes_next(self, shell: Shell):
        said = shell(
            "create",
            "--client",
            "acme",
            "--tier",
            "gold",
            "--permissions",
            "a:read, b:*,",
            "--roles",
            "op",
            "--expires",
            "90d",
        )
        [key] = load(shell.file)
        [secret] = SECRET.findall(said)
        assert said.splitlines()[0] == (
            f"{key.id}: a key for acme (tier gold; roles op; permissions a:read,b:*), that "
            f"expires 2024-02-12 22:13 UTC"
        )
        assert "only time it is shown" in said and "within a second" in said
        assert (key.permissions, key.roles, key.expires) == (
            {"a:read", "b:*"},
            {"op"},
            NOW + 90 * 86_400,
        )
        assert secret not in shell("list") + shell("list", "--json") + shell.file.read_text()

    def test_without_anything(self, shell: Shell):
        assert "a key for acme (no permissions), that never expires" in shell(
            "create", "--client", "acme"
        )

    @pytest.mark.parametrize(
        ("when", "unix"),
        [
            ("12h", NOW + 43_200),
            ("2024-01-01", 1_704_067_200),
            ("2024-01-01T02:00:00+02:00", 1_704_067_200),
            ("never", None),
        ],
    )
    def test_expires(self, shell: Shell, when: str, unix: float | None):
        shell.create("acme", "--expires", when)
        assert load(shell.file)[0].expires == unix

    @pytest.mark.parametrize(
        ("when", "said"),
        [
            ("soon", "must be a duration"),
            ("90", "must be a duration"),
            ("2020-01-01", "that is past"),
            ("0s", "is past"),
        ],
    )
    def test_expires_wrong(self, shell: Shell, when: str, said: str):
        assert said in shell("create", "--client", "acme", "--expires", when, code=1)
        assert not shell.file.exists()

    def test_an_existing_key_is_not_shown_again(self, shell: Shell):
        existing = "bec_" + "0123456789abcdef" * 4
        assert existing not in shell("create", "--client", "acme", "--key", existing)
        assert load(shell.file)[0].hint == "bec_0123"
        assert "there already" in shell("create", "--client", "acme", "--key", existing, code=1)

    def test_an_existing_key_from_standard_input(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("a-key-from-elsewhere\n"))
        made = shell.json("create", "--client", "acme", "--key", "-")
        assert isinstance(made, dict) and made["key"] == "a-key-from-elsewhere"

    def test_for_programs(self, shell: Shell):
        made = shell.json(
            "create",
            "--client",
            "acme",
            "--tier",
            "gold",
            "--expires",
            "1d",
            "--label",
            "x",
            "--prefix",
            "p_",
        )
        assert isinstance(made, dict)
        assert re.fullmatch(r"p_[0-9a-f]{64}", made.pop("key"))
        assert made == {
            "id": load(shell.file)[0].id,
            "client": "acme",
            "tier": "gold",
            "permissions": [],
            "roles": [],
            "networks": [],
            "limit": None,
            "label": "x",
            "hint": load(shell.file)[0].hint,
            "state": "active",
            "created": "2023-11-14T22:13:20Z",
            "expires": "2023-11-15T22:13:20Z",
            "replaced_by": None,
        }

    def test_another_file(self, shell: Shell, tmp_path: Path):
        assert "other.toml holds nothing but its hash" in shell(
            "create", "--client", "acme", "--file", str(tmp_path / "other.toml")
        )
        assert len(load(tmp_path / "other.toml")) == 1
        assert not shell.file.exists()

    def test_what_is_wrong_is_said_without_a_traceback(self, shell: Shell):
        said = shell("create", "--client", "acme", "--permissions", "a*", code=1)
        assert (
            said.startswith("gateway keys create: permission 'a*' must be")
            and said.count("\n") == 1
        )

    @pytest.mark.parametrize(
        "words",
        [["create"], ["rotate"], ["rotate", "k_1", "--client", "a"], ["revoke"], [], ["steal"]],
    )
    def test_wrong_usage(self, shell: Shell, words: list[str]):
        with pytest.raises(SystemExit) as caught:
            shell(*words)
        assert caught.value.code == 2


class TestList:
    def test_a_table(self, shell: Shell):
        one = shell.create("acme", "--expires", "1d")
        two = shell.create("bert", "--tier", "gold", "--permissions", "x,a", "--label", "a note")
        shell("revoke", two)
        shell.now += 86_400
        hints = [key.hint for key in load(shell.file)]
        assert shell("list").splitlines() == [
            (
                "ID          CLIENT  TIER  KEY          STATE    EXPIRES               "
                "PERMISSIONS  "
                "LABEL"
            ),
            f"{one}  acme          {hints[0]}...  expired  2023-11-15 22:13 UTC",
            (
                f"{two}  bert    gold  {hints[1]}...  revoked  never                 a,x         "
                f" a "
                f"note"
            ),
        ]

    def test_when_and_from_where(self, shell: Shell):
        one = shell.create("acme", "--networks", "192.0.2.0/24,2001:db8::/32")
        last_use.beside(shell.file).write_text(json.dumps({one: int(NOW)}))
        line = shell("list").splitlines()[1]
        assert line.endswith("2023-11-14 22:13 UTC  192.0.2.0/24,2001:db8::/32")
        [listed] = shell.json("list")  # type: ignore[misc]
        assert listed["last_used"] == "2023-11-14T22:13:20Z" and listed["networks"] == [
            "192.0.2.0/24",
            "2001:db8::/32",
        ]
        shell("rotate", one)
        assert load(shell.file)[1].networks == ("192.0.2.0/24", "2001:db8::/32")
        said = shell("create", "--client", "acme", "--networks", "192.0.2.1/24", code=1)
        assert "'192.0.2.1/24' is not an address or a network" in said

    def test_of_one_client(self, shell: Shell):
        shell.create("acme")
        two = shell.create("bert")
        assert [line.split()[0] for line in shell("list", "--client", "bert").splitlines()[1:]] == [
            two
        ]
        assert shell("list", "--client", "carl") == "no keys of carl in keys.toml\n"

    def test_empty(self, shell: Shell):
        shell.file.write_text("")
        assert shell("list") == "no keys in keys.toml\n"
        assert shell.json("list") == []

    def test_a_key_without_a_hint(self, shell: Shell):
        shell.file.write_text(f'[[key]]\nid = "k"\nclient = "a"\nhash = "sha256:{"0" * 64}"\n')
        assert shell("list").splitlines()[1] == "k   a       active  never"

    def test_no_file(self, shell: Shell):
        assert shell("list", code=1) == "gateway keys list: there is no key file keys.toml\n"


class TestRotate:
    def test_by_id(self, shell: Shell):
        old = shell.create("acme")
        said = shell("rotate", old, "--overlap", "2h")
        assert len(SECRET.findall(said)) == 1
        assert f"{old}, which it replaces, is valid until 2023-11-15 00:13 UTC." in said
        assert f"active, replaced by {load(shell.file)[1].id}" in shell("list")

    def test_by_client_and_again(self, shell: Shell):
        shell.create("bert")
        ids = [shell.create("acme")]
        for _ in range(2):
            made = shell.json("rotate", "--client", "acme")
            assert isinstance(made, dict) and made["replaces"]["id"] == ids[-1]
            assert made["replaces"]["expires"] == "2023-11-15T22:13:20Z"
            ids.append(made["id"])
        assert len(set(ids)) == 3

    def test_by_client_needs_one_key(self, shell: Shell):
        shell.file.write_text("")
        assert "acme has no key in use" in shell("rotate", "--client", "acme", code=1)
        ids = [shell.create("acme"), shell.create("acme")]
        assert f"several keys in use: {ids[0]}, {ids[1]}; say which" in shell(
            "rotate", "--client", "acme", code=1
        )
        shell("revoke", ids[0])
        shell("rotate", "--client", "acme")

    def test_at_once(self, shell: Shell):
        old = shell.create("acme")
        assert f"{old}, which it replaces, expired 2023-11-14 22:13 UTC." in shell(
            "rotate", old, "--overlap", "0s"
        )

    @pytest.mark.parametrize(
        ("when", "unix"),
        [([], NOW + 86_400), (["--expires", "never"], None), (["--expires", "2d"], NOW + 172_800)],
    )
    def test_expiry(self, shell: Shell, when: list[str], unix: float | None):
        shell("rotate", shell.create("acme", "--expires", "1d"), *when)
        assert load(shell.file)[1].expires == unix

    def test_wrong(self, shell: Shell):
        old = shell.create("acme")
        assert '--overlap must be a duration such as "90d" or "12h", not' in shell(
            "rotate", old, "--overlap", "x", code=1
        )
        assert "has no key k_0" in shell("rotate", "k_0", code=1)


class TestRevoke:
    def test_once_and_again(self, shell: Shell):
        id = shell.create("acme")
        assert shell("revoke", id) == f"{id} of acme is revoked.\n{key_places.SOON}\n"
        assert shell("revoke", id) == f"{id} of acme was revoked before.\n"
        told = shell.json("revoke", id)
        assert isinstance(told, dict) and told["state"] == "revoked"

    def test_no_such_key(self, shell: Shell):
        shell.create("acme")
        assert (
            shell("revoke", "k_0", code=1) == f"gateway keys revoke: {shell.file} has no key k_0\n"
        )


def test_help_says_what_there_is(shell: Shell, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        shell("--help")
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("create", "list", "rotate", "revoke", keys.ABOUT.split(":")[0])
    )


def test_by_label(shell: Shell):
    one = shell.create("acme", "--label", "their staging system")
    shell.create("acme", "--label", "production")
    found = shell.json("list", "--label", "staging")
    assert isinstance(found, list) and [key["id"] for key in found] == [one]
