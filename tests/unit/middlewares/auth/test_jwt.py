from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core.exchange import Identity
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.credentials.revocations.revoked import Revocation, add
from gateway.middlewares.auth import CONFIG
from gateway.middlewares.auth.memory import LONGEST, Memory
from gateway.tokens import claims as rules
from gateway.tokens.jose import Token
from gateway.tokens.verifying import ALGORITHMS, VerifyingKey
from tests.idp import MAKE, Provider, encoded, jwk, public_pem, signed
from tests.unit.middlewares.auth.bearers import (
    ISSUER,
    NOW,
    SECRET,
    Bearers,
    asked,
    bearing,
    refused,
    through,
    token,
)


@pytest.fixture
def world() -> Bearers:
    return Bearers()


class TestIdentity:
    def test_of_a_token(self, world: Bearers):
        exchange = bearing(
            token(tier="gold", roles=["operator", "auditor"], scope="cameras:read users:*", jti="1")
        )
        assert world.auth(roles={"operator": ["alarms:read"]})(exchange) is None
        assert exchange.identity is not None
        assert replace(exchange.identity, account="") == Identity(
            "acme",
            "jwt",
            "gold",
            "acme",
            frozenset({"operator", "auditor"}),
            frozenset({"cameras:read", "users:*", "alarms:read"}),
            (
                (b"X-Client-ID", b"acme"),
                (b"X-Client-Tier", b"gold"),
                (b"X-Client-Roles", b"auditor,operator"),
            ),
        )
        assert exchange.identity.claims["jti"] == "1"
        assert world.counted() == {("jwt", "ok"): 1}

    @pytest.mark.parametrize(
        ("mapping", "said", "expected"),
        [
            ({"client": "azp"}, {"azp": "app"}, Identity("app", "jwt", user="acme")),
            ({"client": "org.id"}, {"org": {"id": 42}}, Identity("42", "jwt", user="acme")),
            ({"roles": "realm_access.roles"}, {"realm_access": {"roles": ["a"]}}, Identity("acme", "jwt", roles=frozenset("a"))),
            ({"roles": "https://x.example/r"}, {"https://x.example/r": ["a"]}, Identity("acme", "jwt", roles=frozenset("a"))),
            ({"roles": "a.b"}, {"a": "text"}, Identity("acme", "jwt")),
            (
                {"roles": r"resource_access.my\.client.roles"},
                {"resource_access": {"my.client": {"roles": ["a"]}, "my": {"client": {"roles": ["b"]}}}},
                Identity("acme", "jwt", roles=frozenset("a")),
            ),
            ({"roles": r"x\.y"}, {"x.y": ["a"], "x": {"y": ["b"]}}, Identity("acme", "jwt", roles=frozenset("a"))),
            ({"roles": r"a\\b"}, {"a\\b": ["a"]}, Identity("acme", "jwt", roles=frozenset("a"))),
            ({"permissions": "permissions"}, {"permissions": ["p:q"]}, Identity("acme", "jwt", permissions=frozenset({"p:q"}))),
            ({}, {"scope": ""}, Identity("acme", "jwt")),
            ({}, {"sub": "a" * 256}, Identity("a" * 256, "jwt")),
            ({}, {"sub": "Zoë"}, Identity("Zoë", "jwt")),
        ],
    )  # fmt: skip
    def test_of_mapped_claims(
        self, world: Bearers, mapping: dict[str, str], said: dict[str, Any], expected: Identity
    ):
        exchange = bearing(token(**said))
        world.auth({"secret": SECRET, "claims": mapping})(exchange)
        found = exchange.identity
        assert found is not None
        assert (found.client, found.roles, found.permissions) == (
            expected.client,
            expected.roles,
            expected.permissions,
        )
        assert found.headers[0] == (b"X-Client-ID", expected.client.encode())

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ({"sub": None}, "the claim sub, which names the client, is missing"),
            ({"sub": ""}, "the claim sub, which names the client, is missing"),
            (
                {"sub": "a\r\nX-Client-ID: admin"},
                "the claim sub, the client, is not text that fits a header",
            ),
            ({"sub": " acme"}, "fits a header"),
            ({"sub": "a" * 257}, "fits a header"),
            ({"roles": ["a" * 257]}, "the claim roles is neither"),
            ({"sub": True}, "fits a header"),
            ({"sub": ["acme"]}, "fits a header"),
            ({"tier": "gold\n"}, "the claim tier, the tier, is not text"),
            ({"roles": ["a,admin"]}, "a role in the claim roles has a comma"),
            ({"roles": [1]}, "the claim roles is neither an array of words nor"),
            ({"roles": {"a": 1}}, "the claim roles is neither"),
            ({"scope": "a b\r\nc"}, "the claim scope is neither"),
        ],
    )
    def test_that_no_claims_make(self, world: Bearers, said: dict[str, Any], why: str):
        payload = {"iss": ISSUER, "aud": "edge", "exp": NOW + 9, "sub": "acme", **said}
        kept = {name: value for name, value in payload.items() if value is not None}
        # Not through jwt.encode, which refuses some of these itself.
        failed = refused(
            world.auth(), bearing(signed({"alg": "HS256"}, kept, SECRET.encode(), "HS256"))
        )
        assert failed.failure is Failure.UNAUTHENTICATED and why in failed.why


class TestAlgorithms:
    @pytest.mark.parametrize("alg", [alg for alg in ALGORITHMS if alg not in ("Ed25519", "Ed448")])
    def test_each_verifies(self, world: Bearers, alg: str):
        if alg.startswith("HS"):
            key: Any = SECRET
            hook = world.auth({"secret": SECRET, "algorithms": [alg]})
        else:
            key = MAKE[alg]()
            hook = world.auth({"key": public_pem(key), "algorithms": [alg]})
        good = token(key, alg)
        exchange = bearing(good)
        hook(exchange)
        assert exchange.identity is not None
        head, _, signature = good.rpartition(".")
        flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
        assert "signature" in refused(hook, bearing(f"{head}.{flipped}")).why

    def test_a_jwk_will_do(self, world: Bearers):
        key = MAKE["ES256"]()
        hook = world.auth({"key": json.dumps(jwk(key, "a"))})
        hook(bearing(token(key, "ES256", {"kid": "a"})))
        assert "no key 'b'" in refused(hook, bearing(token(key, "ES256", {"kid": "b"}))).why

    def test_a_name_is_not_needed_where_few_keys_fit(self, world: Bearers):
        keys = [MAKE["ES256"]() for _ in range(5)]
        document = json.dumps(
            {"keys": [jwk(key, f"k{index}") for index, key in enumerate(keys[:4])]}
        )
        hook = world.auth({"key": document})
        hook(bearing(token(keys[3], "ES256")))
        more = json.dumps({"keys": [jwk(key, f"k{index}") for index, key in enumerate(keys)]})
        assert (
            "names no key (kid), and 5"
            in refused(world.auth({"key": more}), bearing(token(keys[3], "ES256"))).why
        )


class TestTime:
    @pytest.mark.parametrize(
        ("said", "now", "failure"),
        [
            ({}, NOW + 929, None),
            ({}, NOW + 930, Failure.EXPIRED),
            ({"nbf": NOW + 30}, NOW, None),
            ({"nbf": NOW + 31}, NOW, Failure.UNAUTHENTICATED),
            ({"iat": NOW + 30}, NOW, None),
            ({"iat": NOW + 31}, NOW, Failure.UNAUTHENTICATED),
            ({"iat": None}, NOW, None),
            ({"exp": None}, NOW, Failure.UNAUTHENTICATED),
            ({"exp": NOW + 900.5}, NOW + 930.4, None),
        ],
    )
    def test_bounds(
        self, world: Bearers, said: dict[str, Any], now: float, failure: Failure | None
    ):
        world.now = now
        if failure is None:
            world.auth()(bearing(token(**said)))
        else:
            assert refused(world.auth(), bearing(token(**said))).failure is failure

    def test_what_is_remembered_ends_with_the_token(self, world: Bearers):
        hook, text = world.auth(), token()
        hook(bearing(text))
        world.now = NOW + 930
        assert refused(hook, bearing(text)).failure is Failure.EXPIRED

    def test_max_age(self, world: Bearers):
        hook = world.auth({"secret": SECRET, "max_age": "5m"})
        text = token()
        world.now = NOW + 329
        hook(bearing(text))
        world.now = NOW + 330
        failed = refused(hook, bearing(text))
        assert failed.failure is Failure.EXPIRED and "max_age" in failed.why
        assert "iat is missing" in refused(hook, bearing(token(iat=None))).why

    @given(
        st.one_of(
            st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())
        )
    )
    def test_anything_as_a_time_is_refused_or_right(self, value: Any):
        said = Token("HS256", None, "", {"exp": value, "aud": "edge"}, b"", b"")
        try:
            until = rules.check(said, rules.RulesConfig(("edge",)), NOW)
        except rules.Refused:
            return
        assert until == value + 30 > NOW and type(value) in (int, float)


class TestRules:
    @pytest.mark.parametrize(
        ("table", "headers", "said", "why"),
        [
            ({}, {}, {"aud": None}, "the claim aud is missing"),
            ({}, {}, {"aud": "other"}, "the token is for 'other', not for edge"),
            ({}, {}, {"aud": ["a", "b"]}, "not for edge"),
            ({}, {}, {"aud": ["a", "edge"]}, ""),
            ({}, {}, {"aud": 7}, "neither a string nor an array"),
            ({}, {}, {"aud": [7, "edge"]}, "neither a string nor an array"),
            ({"audience": ["x", "edge"]}, {}, {}, ""),
            ({"audience": []}, {}, {"aud": None}, ""),
            ({"audience": []}, {}, {}, "not for an audience configured here"),
            (
                {},
                {},
                {"iss": "https://other.example"},
                "no issuer 'https://other.example' is configured",
            ),
            ({}, {}, {"iss": None}, "no issuer None is configured"),
            ({"required": ["jti"]}, {}, {}, "the claim jti is missing"),
            ({"required": ["jti"]}, {}, {"jti": "1"}, ""),
            ({"required": [r"ext\.x.id"]}, {}, {"ext.x": {}}, "the claim"),
            ({"required": [r"ext\.x.id"]}, {}, {"ext.x": {"id": 1}}, ""),
            ({}, {"typ": "at+jwt"}, {}, ""),
            ({}, {"typ": "application/at+JWT"}, {}, ""),
            ({}, {"typ": "logout+jwt"}, {}, "the token's typ is 'logout+jwt'"),
            ({"type": "at+jwt"}, {}, {}, "the token's typ is 'JWT'"),
            ({"type": "at+jwt"}, {"typ": "application/at+jwt"}, {}, ""),
        ],
    )
    def test_them(
        self,
        world: Bearers,
        table: dict[str, Any],
        headers: dict[str, Any],
        said: dict[str, Any],
        why: str,
    ):
        hook = world.auth({"secret": SECRET, **table})
        exchange = bearing(token(headers=headers, **said))
        if why:
            assert why in refused(hook, exchange).why
        else:
            hook(exchange)
            assert exchange.identity is not None

    def test_issuers_have_their_own_keys(self, world: Bearers):
        other = "https://other.example"
        hook = world.auth({"secret": SECRET}, {"issuer": other, "secret": SECRET[::-1]})
        hook(bearing(token()))
        hook(bearing(token(SECRET[::-1], iss=other)))
        assert f"not that of a key of {other}" in refused(hook, bearing(token(iss=other))).why


class TestFields:
    def test_no_token(self, world: Bearers):
        failed = refused(world.auth(), asked())
        assert failed.headers == ((b"WWW-Authenticate", b'Bearer realm="gateway"'),)
        assert failed.detail == "This needs a Bearer token in the Authorization header."

    @pytest.mark.parametrize("field", ["Basic YTpi", "Digest x", "Bearer", "bearer"])
    def test_another_scheme_is_not_ours(self, world: Bearers, field: str):
        failed = refused(world.auth(), asked(field if field.lower() != "bearer" else f"{field}x y"))
        assert failed.why == "no credentials"

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
    def test_the_scheme_in_any_case(self, world: Bearers, scheme: str):
        world.auth()(asked(f"{scheme} {token()}"))

    def test_a_wrong_token_is_told_so(self, world: Bearers):
        failed = refused(world.auth(), bearing("a.b.c"))
        assert failed.headers == (
            (b"WWW-Authenticate", b'Bearer realm="gateway", error="invalid_token"'),
        )

    def test_two_fields(self, world: Bearers):
        hook, text = world.auth(), token()
        hook(bearing(text))
        failed = refused(hook, asked(f"Bearer {text}", "Bearer other"))
        assert (
            failed.failure is Failure.MALFORMED
            and failed.detail == "There must be only one Authorization header."
        )

    def test_an_opaque_token_where_only_jwt_is_known(self, world: Bearers):
        assert (
            refused(world.auth(optional=True), bearing("opaque")).failure is Failure.UNAUTHENTICATED
        )

    def test_the_upstream_does_not_see_it_unless_told(self, world: Bearers):
        text = token()
        hook = world.auth()
        for _ in range(2):
            exchange = bearing(text)
            exchange.drop_headers = frozenset((b"other",))
            hook(exchange)
            assert exchange.drop_headers == {b"authorization", b"other"}
        hook = world.auth(forward_credentials=True, name="auth.other")
        for _ in range(2):
            exchange = bearing(text)
            hook(exchange)
            assert exchange.drop_headers is None

    def test_scopes_are_permissions(self, world: Bearers):
        hook = world.auth(require=["cameras:write"])
        hook(bearing(token(scope="cameras:write")))
        failed = refused(hook, bearing(token(scope="cameras:read")))
        assert failed.failure is Failure.FORBIDDEN and "needs cameras:write" in failed.why

    def test_explained(self, world: Bearers):
        exchange = bearing(token(), explained=True)
        world.auth()(exchange)
        assert exchange.decisions is not None
        assert [decision.outcome for decision in exchange.decisions] == ["allowed"]
        assert world.counted() == {}


class TestWhoIsWho:
    """What two issuers, or two organizations of one, must not share: caches for one caller, limits,
    owners, X-Client-ID."""

    OTHER = "https://other.example"

    def callers(self, world: Bearers, *said: dict[str, Any], **first: Any) -> list[Identity]:
        other = {"issuer": self.OTHER, "secret": SECRET, "claims": {"prefix": "partners:"}}
        hook, found = world.auth({"secret": SECRET, **first}, other), []
        for claims in said:
            exchange = bearing(token(**claims))
            hook(exchange)
            assert exchange.identity is not None
            found.append(exchange.identity)
        return found

    def test_the_same_caller_in_another_token(self, world: Bearers):
        one, two = self.callers(
            world,
            {"jti": "1", "sid": "a"},
            {"jti": "2", "exp": NOW + 5, "iat": NOW - 5, "nonce": "n"},
        )
        assert one == two and hash(one) == hash(two) and one.claims != two.claims

    @pytest.mark.parametrize(
        "more", [{"org_id": "b"}, {"iss": OTHER}, {"sub": "bert"}, {"tier": "gold"}, {"acr": "2"}]
    )
    def test_callers_that_differ(self, world: Bearers, more: dict[str, Any]):
        one, two = self.callers(world, {"org_id": "a"}, {"org_id": "a", **more})
        assert one != two

    def test_names_of_another_issuer(self, world: Bearers):
        ours, theirs = self.callers(world, {}, {"iss": self.OTHER})
        assert (ours.client, ours.user) == ("acme", "acme")
        assert (theirs.client, theirs.user) == ("partners:acme", "partners:acme")
        assert theirs.headers[0] == (b"X-Client-ID", b"partners:acme")

    def test_nobody_takes_anothers_prefix(self, world: Bearers):
        hook = world.auth(
            {"secret": SECRET},
            {"issuer": self.OTHER, "secret": SECRET, "claims": {"prefix": "a:"}},
            {"issuer": "https://third.example", "secret": SECRET, "claims": {"prefix": "a:b:"}},
        )
        for more in ({"sub": "a:acme"}, {"sub": "b:acme", "iss": self.OTHER}):
            assert "which is another issuer's prefix" in refused(hook, bearing(token(**more))).why
        hook(bearing(token(sub="acme", iss="https://third.example")))
        hook(bearing(token(sub="acme", iss=self.OTHER)))

    def test_our_own_tokens_with_a_prefix_name_the_client(self, world: Bearers):
        with pytest.raises(ConfigProblem, match="own needs the gateway"):
            world.auth({"own": True, "claims": {"prefix": "us:"}})

    @pytest.mark.parametrize("prefix", ["a b", "a,b", "é", "x" * 65])
    def test_prefixes_that_fit_no_header(self, world: Bearers, prefix: str):
        with pytest.raises(ValidationError):
            world.auth({"secret": SECRET, "claims": {"prefix": prefix}})


class TestMemory:
    def test_a_token_is_verified_once(self, world: Bearers, monkeypatch: pytest.MonkeyPatch):
        hook, text = world.auth(), token()
        hook(bearing(text))
        monkeypatch.setattr(VerifyingKey, "verifies", lambda *_: pytest.fail("verified again"))
        hook(bearing(text))

    def test_one_token_is_remembered_once_however_it_is_sent(
        self, world: Bearers, monkeypatch: pytest.MonkeyPatch
    ):
        hook, text = world.auth(), token()
        hook(bearing(text))
        monkeypatch.setattr(VerifyingKey, "verifies", lambda *_: pytest.fail("verified again"))
        for scheme in ("bearer", "BEARER", "bEaReR"):
            for spaces in (1, 2, 50):
                hook(asked(f"{scheme}{' ' * spaces}{text}"))
        hook(bearing(text))
        assert "1 tokens known" in repr(hook.__self__)  # type: ignore[attr-defined]

    def test_a_wrong_one_is_not_remembered(self, world: Bearers):
        hook = world.auth()
        refused(hook, bearing(token("x" * 32)))
        assert "0 tokens known" in repr(hook.__self__)  # type: ignore[attr-defined]

    def test_routes_and_reloads_share_it_until_something_changes(self, world: Bearers):
        def verifier(**table: Any) -> object:
            return world.auth(**table).__self__._methods[0]._verifier  # type: ignore[attr-defined]

        first = verifier()
        assert verifier(route="a", require=["x"]) is first
        world.reload()
        assert verifier() is first
        assert verifier(roles={"a": ["b"]}) is not first

    def test_two_generations(self):
        memory: Memory[int] = Memory(2)
        for number in range(3):
            memory.put(str(number), (number, 9.0))
        assert len(memory) == 3 and memory.get("0") == (0, 9.0)  # moved to the young
        memory.put("3", (3, 9.0))
        assert memory.get("1") is None
        assert memory.get("0") == (0, 9.0) and memory.get("3") == (3, 9.0)
        memory.put("x" * (LONGEST + 1), (4, 9.0))
        assert memory.get("x" * (LONGEST + 1)) is None
        memory.clear()
        assert len(memory) == 0 and memory.get("0") is None

    @given(st.lists(st.integers(0, 30)), st.integers(1, 8))
    def test_it_is_bounded_and_never_wrong(self, puts: list[int], size: int):
        memory: Memory[int] = Memory(size)
        for number in puts:
            memory.put(str(number), (number, 1.0))
            assert memory.get(str(number)) == (number, 1.0)
            assert len(memory) <= 2 * size
        for number in range(31):
            assert memory.get(str(number)) in (None, (number, 1.0))


class TestRevocations:
    def test_a_revoked_token_in_any_spelling(self, tmp_path: Path):
        world = Bearers(tmp_path)
        hook = world.auth(revocations="revoked.toml")
        text = token(jti="j1")
        hook(bearing(text))
        add(tmp_path / "revoked.toml", Revocation(jti="j1"))
        again = world.auth(revocations="revoked.toml")
        hook(bearing(text))  # what is only being built changes nothing
        world.reload()
        for one in (
            hook,
            again,
        ):  # a list has no generations: what a reload has read holds for requests under way as well
            failed = refused(one, bearing(text))
            assert (failed.failure, failed.detail) == (
                Failure.UNAUTHENTICATED,
                "The token has been revoked.",
            )
        hook(bearing(token(jti="j2")))
        assert world.counted()["jwt", "revoked"] == 2

    async def test_the_file_is_followed(self, tmp_path: Path):
        world = Bearers(tmp_path)
        hook, text = world.auth(revocations="revoked.toml"), token()
        hook(bearing(text))
        add(tmp_path / "revoked.toml", Revocation(subject="acme", before=NOW + 1))
        kept = hook.__self__._methods[0]._verifier._revocations  # type: ignore[attr-defined]
        await kept._watched.look()
        assert "subject" in refused(hook, bearing(text)).why
        hook(bearing(token(iat=NOW + 1)))
        world.close()
        assert kept.listeners == set()

    def test_a_list_that_makes_no_sense(self, tmp_path: Path):
        (tmp_path / "revoked.toml").write_text("x")
        with pytest.raises(ConfigProblem, match="is not TOML") as caught:
            Bearers(tmp_path).auth(revocations="revoked.toml")
        assert caught.value.at == ("revocations",)


class TestConfig:
    @pytest.mark.parametrize(
        ("table", "at", "message"),
        [
            ({}, ("jwt", 0), "nothing says where its keys are"),
            ({"secret": SECRET, "discovery": True}, ("jwt", 0), "secret and discovery says where"),
            ({"secret": "short"}, ("jwt", 0, "secret"), "has 5 bytes; HS256 needs 32 or more"),
            (
                {"secret": SECRET[:48], "algorithms": ["HS512"]},
                ("jwt", 0, "secret"),
                "has 48 bytes; HS512 needs 64",
            ),
            (
                {"secret": SECRET, "algorithms": ["RS256"]},
                ("jwt", 0, "secret"),
                "RS256 does not work with a secret",
            ),
            ({"key": "nonsense"}, ("jwt", 0, "key"), "is not a public key in PEM"),
            ({"key": "{"}, ("jwt", 0, "key"), "is neither PEM nor JSON"),
            (
                {"key": public_pem(MAKE["ES256"]()), "algorithms": ["HS256"]},
                ("jwt", 0, "algorithms"),
                "HS256 needs a secret",
            ),
            (
                {"key": public_pem(MAKE["ES256"]()), "algorithms": ["ES384"]},
                ("jwt", 0, "key"),
                "fits ES256; allowed are ES384",
            ),
            (
                {"jwks": "https://x.example/", "algorithms": ["HS256"]},
                ("jwt", 0, "algorithms"),
                "HS256 needs a secret",
            ),
            (
                {"issuer": "acme", "discovery": True},
                ("jwt", 0, "issuer"),
                "discovery needs an issuer that is a URL",
            ),
        ],
    )
    def test_where_keys_are(
        self, world: Bearers, table: dict[str, Any], at: tuple[Any, ...], message: str
    ):
        with pytest.raises(ConfigProblem) as caught:
            world.auth(table)
        assert caught.value.at == at and message in caught.value.message
        assert SECRET[:32] not in caught.value.message

    def test_no_issuer_and_twice_the_same(self, world: Bearers):
        with pytest.raises(ConfigProblem, match="no issuer") as caught:
            world.auth(jwt=[])
        assert caught.value.at == ("methods",)
        with pytest.raises(ConfigProblem, match="has two tables") as caught:
            world.auth({"secret": SECRET}, {"secret": SECRET})
        assert caught.value.at == ("jwt", 1, "issuer")

    @pytest.mark.parametrize(
        "table",
        [
            {"audience": 7},
            {"audience": [7]},
            {"algorithms": ["none"]},
            {"issuer": ""},
            {"jwks": "ftp://x"},
        ],
    )
    def test_values_that_are_wrong_alone(self, table: dict[str, Any]):
        with pytest.raises(ValidationError):
            CONFIG().load({"jwt": [{"issuer": ISSUER, **table}]})

    def test_secrets_are_not_shown(self, world: Bearers):
        loaded = CONFIG().load({"methods": ["jwt"], "jwt": [{"issuer": ISSUER, "secret": SECRET}]})
        assert SECRET not in repr(loaded)
        assert SECRET not in repr(world.auth())

    def test_without_a_loop_nothing_is_fetched(self, world: Bearers):
        hook = world.auth({"discovery": True})
        assert "not fetched yet" in repr(hook.__self__)  # type: ignore[attr-defined]


class TestFetchedKeys:
    @pytest.fixture
    async def provider(self):
        one = await Provider().start()
        yield one
        await one.stop()

    @pytest.fixture
    async def world(self):
        one = Bearers(now=time.time())
        yield one
        one.close()
        await asyncio.sleep(0)

    @pytest.mark.parametrize("discovered", [False, True])
    async def test_they_are_waited_for_then_known(
        self, world: Bearers, provider: Provider, discovered: bool
    ):
        where: dict[str, Any] = {"discovery": True} if discovered else {"jwks": provider.jwks}
        hook = world.auth({"issuer": provider.issuer, **where})
        text = provider.token()
        later = hook(bearing(text))
        assert later is not None
        await later
        exchange = bearing(text)
        assert hook(exchange) is None
        assert exchange.identity is not None and exchange.identity.client == "acme"
        assert provider.requests["/jwks"] == 1

    async def test_a_new_key_is_fetched_and_one_taken_back_is_gone(
        self, world: Bearers, provider: Provider
    ):
        hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks, "cooldown": "10ms"})
        old = provider.token()
        assert await through(hook, bearing(old))
        provider.rotate("k2")
        assert await through(hook, bearing(provider.token()))
        assert hook(bearing(old)) is None
        provider.rotate("k3", keep=False)
        assert await through(hook, bearing(provider.token()))
        with pytest.raises(Failed, match="has no key 'k1'"):
            await through(hook, bearing(old))
        assert provider.requests["/jwks"] == 4

    async def test_an_issuer_that_was_never_there(self, world: Bearers, provider: Provider):
        provider.down = True
        hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks, "cooldown": "1ms"})
        with pytest.raises(Failed) as caught:
            await through(hook, bearing(provider.token()))
        assert caught.value.failure is Failure.NO_ENDPOINT
        assert caught.value.headers == ((b"Retry-After", b"1"),)
        assert "answered 503" in caught.value.why
        assert world.counted() == {("jwt", "unavailable"): 1}

    @pytest.mark.parametrize("alg", ["none", "HS256", "RS512"])
    async def test_an_algorithm_that_is_not_allowed_is_worth_no_fetch(
        self, world: Bearers, provider: Provider, alg: str
    ):
        hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks, "cooldown": "1ms"})
        await through(hook, bearing(provider.token()))
        parts = provider.token().split(".")
        header = encoded({"alg": alg, "kid": "unknown"})
        assert (
            "has no key 'unknown'" in refused(hook, bearing(f"{header}.{parts[1]}.{parts[2]}")).why
        )
        assert provider.requests["/jwks"] == 1

    async def test_only_so_many_wait(
        self, world: Bearers, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("gateway.tokens.jwks.MOST_WAITING", 0)
        hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks})
        with pytest.raises(Failed, match="has no key 'k1'"):
            await through(hook, bearing(provider.token()))

    async def test_a_method_after_one_that_waited(self, world: Bearers, provider: Provider):
        """Two instances of what waits: the second's refusal is the second's."""
        hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks, "cooldown": "1ms"})
        auth = hook.__self__  # type: ignore[attr-defined]

        async def nobody() -> None:
            return None

        class Waits:
            name, challenge, rejected, wanted = "first", b"First", b"First", "one"
            fields = frozenset[bytes]()

            def identify(self, exchange: Any) -> Any:
                return nobody()

        auth._methods = (Waits(), *auth._methods)
        assert await through(hook, bearing(provider.token()))
        with pytest.raises(Failed, match="signature"):
            await through(hook, bearing(provider.token()[:-4] + "AAAA"))
        with pytest.raises(Failed, match="no credentials"):
            await through(hook, asked())


def test_the_hook_is_plain():
    assert not asyncio.iscoroutinefunction(Bearers().auth())
