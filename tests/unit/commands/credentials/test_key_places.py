"""Where `gateway keys` keeps keys: a file, a store, or what the configuration says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.commands.credentials import key_places, keys
from gateway.credentials.api_keys.redis_keys import RedisKeys
from gateway.credentials.store_client import connected
from gateway.store.stores import parse
from tests.flow.conftest import write
from tests.redis import RedisServer
from tests.unit.commands.credentials.shell import NOW, Shell, pipeline


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
            words = (
                "--client",
                "acme",
                "--tier",
                "gold",
                "--permissions",
                "a:read",
                "--expires",
                "90d",
                "--label",
                "x",
            )
            words += ("--limit", "100/1m", "--networks", "192.0.2.0/24")
            shell.now = NOW
            lines = [shell("create", *words, *place), shell("list", *place)]
            shell.now += 10
            lines += [
                shell("rotate", "--client", "acme", *place),
                shell("list", "--client", "acme", *place),
            ]
            [*_, newest] = json.loads(shell("list", "--json", *place))
            lines += [
                shell("revoke", newest["id"], *place),
                shell("revoke", newest["id"], *place),
                shell("list", *place),
            ]
            lines.append(shell("list", "--client", "nobody", *place))
            lines.append(shell("revoke", "k_none", *place, code=1))
            said.append(
                [self.plain(line, str(shell.file) if not place else url[:-2]) for line in lines]
            )
        assert said[0] == said[1]
        assert "limit 100/1m" in said[1][0] and said[1][3].count("100/1m") == 2  # rotation keeps it
        assert "acme" in said[1][1] and "Gateways that are running" in said[1][0]

    @staticmethod
    def plain(text: str, place: str) -> str:
        """Without what is different each time."""
        text = (
            text.replace(place, "PLACE")
            .replace("keys.toml", "PLACE")
            .replace(key_places.SOON, RedisKeys.soon)
        )
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
    def test_where_a_configuration_says(
        self, shell: Shell, url: str, tmp_path: Path, auth: str, store: str, where: str
    ):
        write(
            tmp_path,
            pipeline("one", auth.format(url=url)),
            "",
            f'[store]\nurl = "{store.format(url=url)}"\n',
        )
        (tmp_path / "mine.toml").write_text("")
        said = shell("create", "--client", "acme", "--config", str(tmp_path / "gateway.toml"))
        assert where in said.splitlines()[4]
        assert "acme" in shell("list", "--config", str(tmp_path / "gateway.toml"))

    @pytest.mark.parametrize(("heeds", "warned"), [("true", False), ("false", True)])
    def test_a_limit_that_nothing_heeds(
        self, shell: Shell, tmp_path: Path, heeds: str, warned: bool
    ):
        limits = f"[rate_limit]\nlimit = 9\nwindow = '1m'\nkey_limits = {heeds}\n"
        text = pipeline("one", 'file = "../keys.toml"').replace(
            '["auth"]', '["auth", "rate_limit"]'
        )
        write(tmp_path, text.replace("[auth]", limits + "[auth]"))
        shell.file.write_text("")
        args = [
            "create",
            "--client",
            "a",
            "--limit",
            "5/1m",
            "--config",
            str(tmp_path / "gateway.toml"),
        ]
        assert keys.run(shell.parser.parse_args(args), now=lambda: NOW) == 0
        assert (
            "has no effect: no rate_limit says key_limits = true" in shell.capsys.readouterr().err
        ) is warned

    def test_a_configuration_that_does_not_say(self, shell: Shell, tmp_path: Path):
        config = str(tmp_path / "gateway.toml")
        assert "what the configuration says cannot be told" in shell(
            "list", "--config", config, code=1
        )
        write(tmp_path, "request = []\n[[route]]\nprefix = '/'\nbuiltin = 'info'\n")
        assert "has no API keys" in shell("list", "--config", config, code=1)
        write(tmp_path, pipeline("one", 'file = "a.toml"'))
        (tmp_path / "pipelines" / "two.toml").write_text(pipeline("two", 'file = "b.toml"'))
        assert re.search(
            r"keeps keys in .*a.toml and .*b.toml; say which",
            shell("list", "--config", config, code=1),
        )

    def test_a_store_that_is_none(self, shell: Shell):
        assert "the store's URL must begin with memory://" in shell(
            "list", "--store", "keys.toml", code=1
        )
