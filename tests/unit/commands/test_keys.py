from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path

import pytest

from gateway.commands import key_places, keys
from gateway.credentials.api_keys import last_use
from gateway.credentials.api_keys.key_file import load
from gateway.credentials.api_keys.redis_keys import RedisKeys
from gateway.credentials.store_client import connected
from gateway.store.stores import parse
from tests.flow.conftest import write
from tests.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

NOW = 1_700_000_000.0
SECRET = re.compile(r"bec_[0-9a-f]{64}")


class Shell:
    """The command line, in a directory of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], file: Path) -> None:
        self.capsys = capsys
        self.file = file
        self.now = NOW
        self.parser = argparse.ArgumentParser("gateway")
        keys.add_parser(self.parser.add_subparsers(dest="command"))

    def __call__(self, *words: str, code: int = 0) -> str:
        """What `gateway keys ...` prints: on stdout, or on stderr when it fails."""
        args = self.parser.parse_args(["keys", *words])
        assert (args.command, args.run) == ("keys", keys.run)
        assert args.run(args, now=lambda: self.now) == code
        out, err = self.capsys.readouterr()
        if code:
            assert out == ""
            return err
        assert err == ""
        return out

    def json(self, *words: str) -> object:
        return json.loads(self(*words, "--json"))

    def create(self, client: str = "acme", *words: str) -> str:
        made = self.json("create", "--client", client, *words)
        assert isinstance(made, dict)
        return str(made["id"])


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, tmp_path / "keys.toml")


class TestCreate:
    def test_shows_the_key_once_and_what_comes_next(self, shell: Shell):
        said = shell(
            "create", "--client", "acme", "--tier", "gold", "--permissions", "a:read, b:*,", "--roles", "op", "--expires", "90d"
        )
        [key] = load(shell.file)
        [secret] = SECRET.findall(said)
        assert said.splitlines()[0] == (
            f"{key.id}: a key for acme (tier gold; roles op; permissions a:read,b:*), that expires 2024-02-12 22:13 UTC"
        )
        assert "only time it is shown" in said and "within a second" in said
        assert (key.permissions, key.roles, key.expires) == ({"a:read", "b:*"}, {"op"}, NOW + 90 * 86_400)
        assert secret not in shell("list") + shell("list", "--json") + shell.file.read_text()

    def test_without_anything(self, shell: Shell):
        assert "a key for acme (no permissions), that never expires" in shell("create", "--client", "acme")

    @pytest.mark.parametrize(
        ("when", "unix"),
        [("12h", NOW + 43_200), ("2024-01-01", 1_704_067_200), ("2024-01-01T02:00:00+02:00", 1_704_067_200), ("never", None)],
    )
    def test_expires(self, shell: Shell, when: str, unix: float | None):
        shell.create("acme", "--expires", when)
        assert load(shell.file)[0].expires == unix

    @pytest.mark.parametrize(
        ("when", "said"),
        [("soon", "must be a duration"), ("90", "must be a duration"), ("2020-01-01", "that is past"), ("0s", "is past")],
    )
    def test_expires_wrong(self, shell: Shell, when: str, said: str):
        assert said in shell("create", "--client", "acme", "--expires", when, code=1)
        assert not shell.file.exists()

    def test_an_existing_key_is_not_shown_again(self, shell: Shell):
        existing = "bec_" + "0123456789abcdef" * 4
        assert existing not in shell("create", "--client", "acme", "--key", existing)
        assert load(shell.file)[0].hint == "bec_0123"
        assert "there already" in shell("create", "--client", "acme", "--key", existing, code=1)

    def test_an_existing_key_from_standard_input(self, shell: Shell, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sys.stdin", io.StringIO("a-key-from-elsewhere\n"))
        made = shell.json("create", "--client", "acme", "--key", "-")
        assert isinstance(made, dict) and made["key"] == "a-key-from-elsewhere"

    def test_for_programs(self, shell: Shell):
        made = shell.json("create", "--client", "acme", "--tier", "gold", "--expires", "1d", "--label", "x", "--prefix", "p_")
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
        assert said.startswith("gateway keys create: permission 'a*' must be") and said.count("\n") == 1

    @pytest.mark.parametrize("words", [["create"], ["rotate"], ["rotate", "k_1", "--client", "a"], ["revoke"], [], ["steal"]])
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
            "ID          CLIENT  TIER  KEY          STATE    EXPIRES               PERMISSIONS  LABEL",
            f"{one}  acme          {hints[0]}...  expired  2023-11-15 22:13 UTC",
            f"{two}  bert    gold  {hints[1]}...  revoked  never                 a,x          a note",
        ]

    def test_when_and_from_where(self, shell: Shell):
        one = shell.create("acme", "--networks", "192.0.2.0/24,2001:db8::/32")
        last_use.beside(shell.file).write_text(json.dumps({one: int(NOW)}))
        line = shell("list").splitlines()[1]
        assert line.endswith("2023-11-14 22:13 UTC  192.0.2.0/24,2001:db8::/32")
        [listed] = shell.json("list")  # type: ignore[misc]
        assert listed["last_used"] == "2023-11-14T22:13:20Z" and listed["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
        shell("rotate", one)
        assert load(shell.file)[1].networks == ("192.0.2.0/24", "2001:db8::/32")
        said = shell("create", "--client", "acme", "--networks", "192.0.2.1/24", code=1)
        assert "'192.0.2.1/24' is not an address or a network" in said

    def test_of_one_client(self, shell: Shell):
        shell.create("acme")
        two = shell.create("bert")
        assert [line.split()[0] for line in shell("list", "--client", "bert").splitlines()[1:]] == [two]
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
        assert f"several keys in use: {ids[0]}, {ids[1]}; say which" in shell("rotate", "--client", "acme", code=1)
        shell("revoke", ids[0])
        shell("rotate", "--client", "acme")

    def test_at_once(self, shell: Shell):
        old = shell.create("acme")
        assert f"{old}, which it replaces, expired 2023-11-14 22:13 UTC." in shell("rotate", old, "--overlap", "0s")

    @pytest.mark.parametrize(
        ("when", "unix"), [([], NOW + 86_400), (["--expires", "never"], None), (["--expires", "2d"], NOW + 172_800)]
    )
    def test_expiry(self, shell: Shell, when: list[str], unix: float | None):
        shell("rotate", shell.create("acme", "--expires", "1d"), *when)
        assert load(shell.file)[1].expires == unix

    def test_wrong(self, shell: Shell):
        old = shell.create("acme")
        assert '--overlap must be a duration such as "90d" or "12h", not' in shell("rotate", old, "--overlap", "x", code=1)
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
        assert shell("revoke", "k_0", code=1) == f"gateway keys revoke: {shell.file} has no key k_0\n"


def test_help_says_what_there_is(shell: Shell, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        shell("--help")
    said = capsys.readouterr().out
    assert all(word in said for word in ("create", "list", "rotate", "revoke", keys.ABOUT.split(":")[0]))


class TestPlaces:
    """The same commands, whatever keeps the keys."""

    @pytest.fixture
    def url(self, shared_redis: RedisServer) -> str:
        with connected(parse(f"{shared_redis.url}/6")) as client:
            client.flushdb()
        return f"{shared_redis.url}/6"

    def test_a_store_is_like_a_file(self, shell: Shell, url: str):
        said: list[list[str]] = []
        for place in ((), ("--store", url)):
            words = ("--client", "acme", "--tier", "gold", "--permissions", "a:read", "--expires", "90d", "--label", "x")
            words += ("--limit", "100/1m", "--networks", "192.0.2.0/24")
            shell.now = NOW
            lines = [shell("create", *words, *place), shell("list", *place)]
            shell.now += 10
            lines += [shell("rotate", "--client", "acme", *place), shell("list", "--client", "acme", *place)]
            [*_, newest] = json.loads(shell("list", "--json", *place))
            lines += [shell("revoke", newest["id"], *place), shell("revoke", newest["id"], *place), shell("list", *place)]
            lines.append(shell("list", "--client", "nobody", *place))
            lines.append(shell("revoke", "k_none", *place, code=1))
            said.append([self.plain(line, str(shell.file) if not place else url[:-2]) for line in lines])
        assert said[0] == said[1]
        assert "limit 100/1m" in said[1][0] and said[1][3].count("100/1m") == 2  # rotation keeps it
        assert "acme" in said[1][1] and "Gateways that are running" in said[1][0]

    @staticmethod
    def plain(text: str, place: str) -> str:
        """Without what is different each time."""
        text = text.replace(place, "PLACE").replace("keys.toml", "PLACE").replace(key_places.SOON, RedisKeys.soon)
        return re.sub(r"bec_[0-9a-f]+", "KEY", re.sub(r"k_[0-9a-f]{8}", "ID", text))

    @pytest.mark.parametrize(
        ("auth", "store", "where"),
        [
            ('file = "../mine.toml"', "memory://", "mine.toml"),
            ("", "memory://", "keys.toml"),
            ('store = "redis"', "{url}", "redis://"),
            ('store = "{url}"', "memory://", "redis://"),
        ],
    )
    def test_where_a_configuration_says(self, shell: Shell, url: str, tmp_path: Path, auth: str, store: str, where: str):
        write(tmp_path, self.pipeline("one", auth.format(url=url)), "", f'[store]\nurl = "{store.format(url=url)}"\n')
        (tmp_path / "mine.toml").write_text("")
        said = shell("create", "--client", "acme", "--config", str(tmp_path / "gateway.toml"))
        assert where in said.splitlines()[4]
        assert "acme" in shell("list", "--config", str(tmp_path / "gateway.toml"))

    @pytest.mark.parametrize(("heeds", "warned"), [("true", False), ("false", True)])
    def test_a_limit_that_nothing_heeds(self, shell: Shell, tmp_path: Path, heeds: str, warned: bool):
        limits = f"[rate_limit]\nlimit = 9\nwindow = '1m'\nkey_limits = {heeds}\n"
        pipeline = self.pipeline("one", 'file = "../keys.toml"').replace('["auth"]', '["auth", "rate_limit"]')
        write(tmp_path, pipeline.replace("[auth]", limits + "[auth]"))
        shell.file.write_text("")
        args = ["keys", "create", "--client", "a", "--limit", "5/1m", "--config", str(tmp_path / "gateway.toml")]
        assert keys.run(shell.parser.parse_args(args), now=lambda: NOW) == 0
        assert ("has no effect: no rate_limit says key_limits = true" in shell.capsys.readouterr().err) is warned

    def test_a_configuration_that_does_not_say(self, shell: Shell, tmp_path: Path):
        config = str(tmp_path / "gateway.toml")
        assert "what the configuration says cannot be told" in shell("list", "--config", config, code=1)
        write(tmp_path, "request = []\n[[route]]\nprefix = '/'\nbuiltin = 'info'\n")
        assert "has no API keys" in shell("list", "--config", config, code=1)
        write(tmp_path, self.pipeline("one", 'file = "a.toml"'))
        (tmp_path / "pipelines" / "two.toml").write_text(self.pipeline("two", 'file = "b.toml"'))
        assert re.search(r"keeps keys in .*a.toml and .*b.toml; say which", shell("list", "--config", config, code=1))

    def test_a_store_that_is_none(self, shell: Shell):
        assert "the store's URL must begin with memory://" in shell("list", "--store", "keys.toml", code=1)

    @staticmethod
    def pipeline(name: str, auth: str) -> str:
        return f"""
name = "{name}"
request = ["auth"]
[auth]
methods = ["api_key"]
api_key = {{ {auth} }}
[[route]]
path = "/{name}"
builtin = "info"
"""


class TestAudit:
    def lines(self, file: Path) -> list[dict[str, str]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert {line["timestamp"] for line in lines} == {"2023-11-14T22:13:20.000Z"} and all(line["by"] for line in lines)
        assert {Path(line["where"]).name for line in lines} == {"keys.toml"}
        return [{name: line[name] for name in ("event", "outcome", "key", "client")} for line in lines]

    def test_every_change_is_a_line_without_the_key(self, shell: Shell, tmp_path: Path):
        file = tmp_path / "audit.log"
        where = ("--audit", str(file))
        old = shell.create("acme", *where)
        said = shell("rotate", old, "--json", *where)
        new = json.loads(said)["id"]
        shell("revoke", old, *where)
        shell("revoke", old, *where)
        shell("rotate", old, *where, code=1)
        shell("list")
        outcomes = [("created", old), ("created", new), ("rotated", old), ("revoked", old)]
        assert self.lines(file) == [
            {"event": "key_change", "outcome": outcome, "key": id, "client": "acme"} for outcome, id in outcomes
        ]
        assert json.loads(said)["key"][4:] not in file.read_text()

    @pytest.mark.parametrize("log", ["../audit.log", "-"])
    def test_the_log_of_the_configuration(self, shell: Shell, tmp_path: Path, log: str):
        shell.file.write_text("")
        write(tmp_path, TestPlaces.pipeline("one", f'file = "../keys.toml" }}\naudit = {{ file = "{log}"'))
        id = shell.create("acme", "--config", str(tmp_path / "gateway.toml"))
        file = tmp_path / "audit.log"
        assert file.exists() is (log != "-")
        assert log == "-" or self.lines(file) == [{"event": "key_change", "outcome": "created", "key": id, "client": "acme"}]

    def test_a_log_that_cannot_be_written_keeps_from_changing(self, shell: Shell, tmp_path: Path):
        assert "cannot open the audit log" in shell("create", "--client", "acme", "--audit", str(tmp_path), code=1)
        assert not shell.file.exists()


def test_by_label(shell: Shell):
    one = shell.create("acme", "--label", "their staging system")
    shell.create("acme", "--label", "production")
    found = shell.json("list", "--label", "staging")
    assert isinstance(found, list) and [key["id"] for key in found] == [one]
