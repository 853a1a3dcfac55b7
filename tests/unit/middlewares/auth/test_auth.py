from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from marshmallow import ValidationError

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.credentials.api_keys import key_file, key_ring
from gateway.credentials.api_keys.key_file import digest
from gateway.middlewares import auth
from gateway.middlewares.auth import CONFIG
from tests.exchange import World
from tests.unit.middlewares.auth import bearers

NOW = 1_700_000_000.0
GOOD = "bec_" + "0123456789abcdef" * 4
OTHER, ENDING, EXPIRED, REVOKED = ("bec_" + letter * 64 for letter in "bcde")
UNKNOWN = key_file.with_checksum("bec_" + "f" * 56)

Hook = Callable[[Exchange], None]


def entry(id: str, key: str, client: str = "acme", **more: str) -> str:
    fields = {"id": f'"{id}"', "client": f'"{client}"', "hash": f'"sha256:{digest(key).hex()}"', **more}
    return "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def at(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


KEYS = (
    entry("k_good", GOOD, tier='"gold"', permissions='["cameras:read"]', roles='["operator", "auditor"]')
    + entry("k_other", OTHER, "bert")
    + entry("k_ending", ENDING, expires=at(NOW + 100))
    + entry("k_expired", EXPIRED, expires=at(NOW - 3600))
    + entry("k_revoked", REVOKED, revoked=at(NOW - 3600))
)


@dataclass
class Keys(World):
    now: float = NOW

    def auth(self, table: dict[str, Any] | None = None, *, route: str = "", name: str = "auth") -> Hook:
        hook = self.build(auth, table, name=name, route=route).request
        assert hook is not None
        return hook  # type: ignore[return-value]

    def counted(self) -> dict[tuple[str, ...], float]:
        return self.telemetry.auth.values


@pytest.fixture
def world(tmp_path: Path) -> Keys:
    (tmp_path / "keys.toml").write_text(KEYS)
    return Keys(tmp_path)


QUERY = {"api_key": {"query": "api_key"}}


asked = partial(bearers.asked, header="x-api-key")


def refused(hook: Hook, exchange: Exchange) -> Failed:
    with pytest.raises(Failed) as caught:
        hook(exchange)
    failed = caught.value
    assert failed.by == "auth"
    for key in (GOOD, OTHER, ENDING, EXPIRED, REVOKED, UNKNOWN):
        shown = f"{failed!r} {failed} {failed.detail} {failed.why} {failed.headers} {exchange!r} {hook!r}"
        assert key not in shown and key[4:] not in shown
    return failed


class TestKeyFile:
    """`pipelines/*.toml` would match a key file beside the pipeline: by default it lies beside gateway.toml."""

    def test_lies_beside_gateway_toml(self, world: Keys):
        world.directory /= "pipelines"
        world.directory.mkdir()
        home = {"home": world.directory.parent}
        assert world.build(auth, **home).request(asked(GOOD)) is None
        with pytest.raises(ConfigProblem, match=r"pipelines/keys\.toml"):
            world.build(auth, {"api_key": {"file": "keys.toml"}}, **home)
        assert world.build(auth, {"api_key": {"file": "../keys.toml"}}, **home).request(asked(GOOD)) is None


class TestIdentity:
    def test_of_a_key(self, world: Keys):
        exchange = asked(GOOD)
        assert world.auth()(exchange) is None
        assert exchange.identity == Identity(
            "acme",
            "api_key",
            "gold",
            roles=frozenset({"operator", "auditor"}),
            permissions=frozenset({"cameras:read"}),
            headers=((b"X-Client-ID", b"acme"), (b"X-Client-Tier", b"gold"), (b"X-Client-Roles", b"auditor,operator")),
        )
        assert exchange.identity.claims == {"key": "k_good"}
        assert world.counted() == {("api_key", "ok"): 1}

    def test_of_a_key_with_nothing_but_a_client(self, world: Keys):
        exchange = asked(OTHER)
        world.auth()(exchange)
        assert exchange.identity == Identity("bert", "api_key", headers=((b"X-Client-ID", b"bert"),))

    def test_roles_bring_permissions(self, world: Keys):
        exchange = asked(GOOD)
        world.auth({"roles": {"operator": ["users:read"], "admin": ["*"]}})(exchange)
        assert exchange.identity is not None
        assert exchange.identity.permissions == {"cameras:read", "users:read"}

    def test_another_header(self, world: Keys):
        hook = world.auth({"api_key": {"header": "X-Partner"}})
        exchange = asked(GOOD, header="x-partner")
        hook(exchange)
        assert exchange.identity is not None and exchange.drop_headers == {b"x-partner"}
        refused(hook, asked(GOOD))

    def test_another_file(self, world: Keys):
        (world.directory / "more").mkdir()
        (world.directory / "more" / "k.toml").write_text(entry("k", UNKNOWN))
        hook = world.auth({"api_key": {"file": "more/k.toml"}})
        hook(asked(UNKNOWN))
        refused(hook, asked(GOOD))


class TestRefusal:
    @pytest.mark.parametrize(
        ("key", "failure", "result", "why", "detail"),
        [
            (UNKNOWN, Failure.UNAUTHENTICATED, "invalid", "no key file", "The API key is not valid."),
            ("x" * 9000, Failure.UNAUTHENTICATED, "invalid", "no key file", "The API key is not valid."),
            ("caf\udce9", Failure.UNAUTHENTICATED, "invalid", "no key file", "The API key is not valid."),
            (REVOKED, Failure.UNAUTHENTICATED, "revoked", "key k_revoked of acme was revoked", "The API key has been revoked."),
            (
                EXPIRED,
                Failure.EXPIRED,
                "expired",
                "key k_expired of acme expired 2023-11-14 21:13 UTC",
                "The API key has expired.",
            ),
        ],
    )
    def test_of_keys_that_are_no_good(self, world: Keys, key: str, failure: Failure, result: str, why: str, detail: str):
        hook = world.auth({"realm": 'the "edge"'})
        for times in (1, 2, 3):
            exchange = asked(key)
            failed = refused(hook, exchange)
            assert (failed.failure, failed.detail) == (failure, detail)
            assert why in failed.why
            assert failed.headers == ((b"WWW-Authenticate", rb'ApiKey realm="the \"edge\""'),)
            assert exchange.identity is None
            assert world.counted() == {("api_key", result): times}

    def test_of_a_request_without_a_key(self, world: Keys):
        failed = refused(world.auth(QUERY), asked())
        assert failed.failure is Failure.UNAUTHENTICATED
        assert failed.detail == "This needs an API key in the X-API-Key header or the api_key parameter."
        assert failed.headers == ((b"WWW-Authenticate", b'ApiKey realm="gateway"'),)
        assert world.counted() == {("none", "missing"): 1}

    def test_of_two_headers(self, world: Keys):
        failed = refused(world.auth(), asked(GOOD, GOOD))
        assert (failed.failure, failed.headers) == (Failure.MALFORMED, ())
        assert failed.detail == "There must be only one X-API-Key header."
        assert world.counted() == {("api_key", "malformed"): 1}

    def test_expiry_is_looked_at_every_time(self, world: Keys):
        hook = world.auth()
        world.now = NOW + 99.9
        hook(asked(ENDING))
        world.now = NOW + 100
        assert refused(hook, asked(ENDING)).failure is Failure.EXPIRED
        world.now = NOW + 99  # a clock that was set back: it is the clock that counts
        hook(asked(ENDING))


class TestQuery:
    @pytest.mark.parametrize(
        ("target", "sent_on"),
        [
            (f"/cameras?api_key={GOOD}", "/cameras"),
            (f"/cameras?limit=5&api_key={GOOD}&page=%20x", "/cameras?limit=5&page=%20x"),
            (f"/a%2Fb?api_key={GOOD}&x", "/a%2Fb?x"),
            (f"/cameras?api%5Fkey={GOOD}&my_api_key=1", "/cameras?my_api_key=1"),
        ],
    )
    def test_the_key_is_taken_out_of_what_goes_on(self, world: Keys, target: str, sent_on: str):
        exchange = asked(target=target)
        world.auth(QUERY)(exchange)
        assert exchange.identity is not None and exchange.identity.client == "acme"
        assert exchange.target == sent_on
        assert exchange.query == sent_on.partition("?")[2]
        assert exchange.drop_headers == {b"x-api-key"}

    @pytest.mark.parametrize(
        "target", ["/cameras", "/cameras?limit=5", "/cameras?my_api_key=1", "/cameras?a=api_key", "/c?x=%41"]
    )
    def test_there_is_none(self, world: Keys, target: str):
        exchange = asked(target=target)
        assert "no credentials" in refused(world.auth(QUERY), exchange).why
        assert exchange.target == target

    def test_not_looked_at_unless_asked_for(self, world: Keys):
        assert "no credentials" in refused(world.auth(), asked(target=f"/cameras?api_key={GOOD}")).why

    def test_decoded(self, world: Keys):
        key = "made=elsewhere&more+%"
        (world.directory / "keys.toml").write_text(entry("k", key))
        exchange = asked(target=f"/cameras?api_key={quote(key, safe='+')}")
        world.auth(QUERY)(exchange)
        assert exchange.identity is not None

    @pytest.mark.parametrize("query", [f"api_key={UNKNOWN}", "api_key=%20"])
    def test_wrong(self, world: Keys, query: str):
        assert refused(world.auth(QUERY), asked(target=f"/cameras?{query}")).detail == "The API key is not valid."

    def test_the_same_in_both(self, world: Keys):
        exchange = asked(GOOD, target=f"/cameras?api_key={GOOD}&x=1")
        world.auth(QUERY)(exchange)
        assert (exchange.target, exchange.drop_headers) == ("/cameras?x=1", {b"x-api-key"})

    def test_a_header_and_another_query(self, world: Keys):
        exchange = asked(GOOD, target="/cameras?x=1")
        world.auth(QUERY)(exchange)
        assert exchange.target == "/cameras?x=1"

    @pytest.mark.parametrize(
        ("keys", "query", "detail"),
        [
            ([GOOD], f"api_key={OTHER}", "The X-API-Key header and the api_key parameter differ."),
            ([], f"api_key={GOOD}&api_key={GOOD}", "There must be only one api_key parameter."),
        ],
    )
    def test_ambiguous(self, world: Keys, keys: list[str], query: str, detail: str):
        failed = refused(world.auth(QUERY), asked(*keys, target=f"/cameras?{query}"))
        assert (failed.failure, failed.detail) == (Failure.MALFORMED, detail)


class TestForwarding:
    def test_the_header_is_dropped_beside_others(self, world: Keys):
        exchange = asked(GOOD)
        exchange.drop_headers = frozenset({b"cookie"})
        world.auth()(exchange)
        assert exchange.drop_headers == {b"cookie", b"x-api-key"}

    def test_forward_credentials(self, world: Keys):
        target = f"/cameras?api_key={GOOD}"
        exchange = asked(GOOD, target=target)
        world.auth({**QUERY, "forward_credentials": True})(exchange)
        assert (exchange.target, exchange.drop_headers) == (target, None)

    def test_credentials_nobody_looked_at_are_dropped_as_well(self, world: Keys):
        """An upstream that trusts Bearer tokens must not get one that came along unverified with a good key."""
        issuer = {"issuer": "https://id.example.com", "secret": "s" * 32}
        hook = world.auth({"methods": ["api_key", "jwt"], "jwt": [issuer]})
        exchange = asked(GOOD)
        hook(exchange)
        assert exchange.drop_headers == {b"x-api-key", b"authorization"}


class TestPermissions:
    @pytest.mark.parametrize(
        ("require", "method", "lacking"),
        [
            (["cameras:read"], "GET", ""),
            (["cameras:write"], "GET", "the permission cameras:write"),
            (["cameras:read", "cameras:write", "users:read"], "GET", "the permissions cameras:write, users:read"),
            ({"GET": ["cameras:read"], "*": ["cameras:write"]}, "HEAD", ""),
            ({"GET": ["cameras:read"], "*": ["cameras:write"]}, "DELETE", "the permission cameras:write"),
            ([], "GET", ""),
        ],
    )
    def test_require(self, world: Keys, require: Any, method: str, lacking: str):
        hook, exchange = world.auth({"require": require}), asked(GOOD, method=method)
        if not lacking:
            hook(exchange)
            assert world.counted() == {("api_key", "ok"): 1}
            return
        failed = refused(hook, exchange)
        assert (failed.failure, failed.headers) == (Failure.FORBIDDEN, ())
        assert failed.detail == f"This needs {lacking}."
        assert failed.why.startswith(f"require: {method} needs cameras:") and "client acme has cameras:read" in failed.why
        assert exchange.identity is not None, "the log still says who it was"
        assert world.counted() == {("api_key", "forbidden"): 1}

    def test_wildcards(self, world: Keys):
        text = entry("k_1", GOOD, permissions='["cameras:*"]') + entry("k_2", OTHER, roles='["admin"]')
        (world.directory / "keys.toml").write_text(text)
        hook = world.auth({"require": ["cameras:write", "cameras:read"], "roles": {"admin": ["*"]}})
        for key in (GOOD, OTHER):
            hook(asked(key))
        mixed = world.auth({"require": ["cameras:write", "users:read"]})
        assert refused(mixed, asked(GOOD)).detail == "This needs the permission users:read."


class TestOptional:
    def test_nobody_in_particular_passes(self, world: Keys):
        exchange = asked()
        world.auth({"optional": True})(exchange)
        assert exchange.identity is None
        assert world.counted() == {("none", "anonymous"): 1}

    def test_a_key_still_counts_and_a_wrong_one_is_refused(self, world: Keys):
        hook, exchange = world.auth({"optional": True}), asked(GOOD)
        hook(exchange)
        assert exchange.identity is not None
        refused(hook, asked(UNKNOWN))

    def test_what_is_required_is_not_optional(self, world: Keys):
        hook = world.auth({"optional": True, "require": {"GET": [], "*": ["cameras:write"]}})
        hook(asked())
        failed = refused(hook, asked(method="POST"))
        assert failed.failure is Failure.UNAUTHENTICATED
        assert failed.why == "no credentials; POST needs cameras:write"


class TestExplain:
    @pytest.mark.parametrize(
        ("table", "keys", "outcome", "why"),
        [
            ({}, [GOOD], "allowed", "api_key of client acme, who has cameras:read; needed: none"),
            (
                {"require": ["cameras:read"]},
                [GOOD],
                "allowed",
                "api_key of client acme, who has cameras:read; needed: cameras:read",
            ),
            ({"optional": True}, [], "allowed", "no credentials, and none are needed"),
            ({}, [], "denied", "no credentials"),
            ({}, [EXPIRED], "denied", "key k_expired of acme expired 2023-11-14 21:13 UTC"),
            ({"require": ["x"]}, [GOOD], "denied", "require: GET needs x; client acme has cameras:read"),
        ],
    )
    def test_decisions(self, world: Keys, table: dict[str, Any], keys: list[str], outcome: str, why: str):
        hook, exchange = world.auth(table), asked(*keys, explained=True)
        if outcome == "denied":
            refused(hook, exchange)
        else:
            hook(exchange)
        assert exchange.decisions is not None
        [decision] = exchange.decisions
        assert (decision.hook, decision.outcome, decision.why) == ("auth", outcome, why)
        assert world.counted() == {}


class TestMemory:
    def test_a_key_is_hashed_once_in_five_minutes(self, world: Keys, monkeypatch: pytest.MonkeyPatch):
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
        assert "<Auth auth (<ApiKeys X-API-Key <KeyRing 5 keys>>,)>" in shown and GOOD[4:] not in shown

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

    def test_a_reload_that_revokes_is_logged_as_well(self, world: Keys, caplog: pytest.LogCaptureFixture):
        world.auth()
        world.reload()
        (world.directory / "keys.toml").write_text((world.directory / "keys.toml").read_text() + entry("k_new", UNKNOWN, "new"))
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
        assert {type(stored) for stored in ring._by_digest} == {bytes} and {len(stored) for stored in ring._by_digest} == {32}
        assert ring.good == {}

    async def test_a_changed_file_is_followed(self, world: Keys):
        hook = world.auth()
        ring = hook.__self__._methods[0]._ring  # type: ignore[attr-defined]
        hook(asked(GOOD))
        refused(hook, asked(UNKNOWN))
        (world.directory / "keys.toml").write_text(entry("k_good", GOOD, revoked="true") + entry("k_new", UNKNOWN, "new"))
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


class TestNetworks:
    @pytest.mark.parametrize(
        ("address", "good"),
        [
            ("192.0.2.7", True),
            ("::ffff:192.0.2.7", True),
            ("192.0.3.7", False),
            ("2001:db8::1", True),
            ("::1", False),
            ("", False),
        ],
    )
    def test_a_key_may_be_bound_to_some(self, world: Keys, address: str, good: bool):
        (world.directory / "keys.toml").write_text(entry("k_1", GOOD, networks='["192.0.2.0/24", "2001:db8::/32"]'))
        hook = world.auth()
        for _ in range(2):
            exchange = asked(GOOD)
            exchange.client_ip = address
            if good:
                hook(exchange)
                continue
            failed = refused(hook, exchange)
            assert failed.failure is Failure.FORBIDDEN and failed.detail == "The API key may not be used from here."
            assert failed.why == f"key k_1 of acme may be used from 192.0.2.0/24, 2001:db8::/32 only, not from {address}"


class TestMistyped:
    def test_a_typo_is_told_from_a_guess(self, world: Keys):
        typo = UNKNOWN[:-1] + ("0" if UNKNOWN[-1] != "0" else "1")
        failed = refused(world.auth(), asked(typo))
        assert failed.detail == "The API key is mistyped: its checksum does not fit."
        assert world.counted() == {("api_key", "mistyped"): 1}


class TestConfig:
    def test_no_key_file(self, world: Keys, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(world.directory)
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"api_key": {"file": "sub/../none.toml"}})
        assert caught.value.at == ("api_key", "file")
        assert "there is no key file" in caught.value.message
        assert caught.value.hint == "make one: gateway keys create --client NAME --file none.toml"
        monkeypatch.chdir("/usr")
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"api_key": {"file": "none.toml"}})
        assert caught.value.hint.endswith(f"--file {(world.directory / 'none.toml').resolve()}")

    def test_a_broken_key_file(self, world: Keys):
        (world.directory / "keys.toml").write_text(KEYS + entry("k_bad", UNKNOWN, tier="3"))
        with pytest.raises(ConfigProblem) as caught:
            world.auth()
        assert caught.value.at == ("api_key", "file")
        assert "key k_bad: tier must be" in caught.value.message and caught.value.hint == ""

    def test_no_methods(self, world: Keys):
        with pytest.raises(ConfigProblem) as caught:
            world.auth({"methods": []})
        assert caught.value.at == ("methods",)

    def test_a_method_named_twice_is_asked_once(self, world: Keys):
        refused(world.auth({"methods": ["api_key", "api_key"]}), asked(UNKNOWN))
        assert world.counted() == {("api_key", "invalid"): 1}

    @pytest.mark.parametrize(
        "table",
        [
            {"methods": ["telepathy"]},
            {"api_key": {"header": "X API"}},
            {"api_key": {"query": ""}},
            {"api_key": {"cookie": "x"}},
            {"require": "x"},
            {"roles": {"admin": "*"}},
            {"roles": {"admin": ["a b"]}},
            {"optional": "yes"},
            {"realm": "a\nb"},
            {"forward_credentials": 1},
        ],
    )
    def test_values_that_are_wrong_alone(self, table: dict[str, Any]):
        with pytest.raises(ValidationError):
            CONFIG().load(table)
