"""`[auth]` and the tables below it. The methods are not imported here (methods.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables import schema
from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    Duration,
    FieldName,
    FieldValue,
    HttpUrl,
    Items,
    Map,
    Secret,
    Size,
    Text,
    Whole,
)
from gateway.config.tables.tokens import AttemptsConfig
from gateway.credentials.audit import AuditConfig
from gateway.middlewares.auth.permissions import Permission, Require
from gateway.middlewares.auth.rules import Network
from gateway.store import stores
from gateway.tokens.algorithms import ALGORITHMS
from gateway.tokens.claims import ClaimsConfig, Texts

METHODS = ("api_key", "jwt", "introspection", "basic", "mtls", "signature")


class SharedStore(Secret):
    """The URL of a Redis, or "redis" for the one that `[store] url` names."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if value != "redis" and (value.startswith("memory:") or not stores.is_url(value)):
            raise ValidationError(
                f'must be "redis", for what [store] url names, or begin with {stores.SCHEMES}'
            )
        return value


@table
class ApiKeyConfig:
    """Where API keys come in, and where they are kept. Times in seconds."""

    header: str = setting(FieldName(), default="X-API-Key", doc="the header a key comes in")
    query: str = setting(
        default="",
        doc="a query parameter it may come in as well; URLs end up in logs and histories",
    )
    file: str = setting(
        default="", doc="the key file; when left out, `keys.toml` beside gateway.toml"
    )
    store: str = setting(
        SharedStore(),
        default="",
        doc='a Redis with the keys instead of the file: its URL, or `"redis"` for `[store]`\'s',
    )
    deadline: float = setting(
        Duration(), default=0.1, doc="how long a request waits for the store at most"
    )
    on_store_failure: str = setting(
        Choice("cached", "closed"),
        default="cached",
        doc="while the store is away: keys that are known go on (`cached`), or none do "
        "(`closed`); unknown ones get 503 either way",
    )
    stale: float = setting(
        Duration(),
        default=3600.0,
        doc="how long a known key goes on that cannot be looked up again",
    )

    def path(self, directory: Path, home: Path) -> Path:
        """The key file. `directory`: of the pipeline's file, `home`: of gateway.toml.

        By default it lies beside gateway.toml: beside a pipeline, `include` would match it.
        """
        return directory / self.file if self.file else home / "keys.toml"


@table
class JwtConfig:
    """One issuer. Exactly one of `secret`, `key`, `jwks`, `discovery` and `own` names its keys."""

    issuer: str = setting(doc="what `iss` must be, letter by letter; it also chooses the table")
    audience: tuple[str, ...] = setting(
        Texts(),
        default=(),
        doc="what `aud` must name, one of them; when left out, tokens that name any are refused",
    )
    algorithms: tuple[str, ...] = setting(
        Items(Choice(*ALGORITHMS)),
        default=(),
        doc="those allowed; when left out `HS256` with a secret, else `RS256`, `PS256`, "
        "`ES256`, `EdDSA`, `Ed25519`. Each key is used only with those that fit it",
    )
    secret: str = setting(
        Secret(),
        default="",
        doc='shared with the issuer, as long as the hash; `{ file = "..." }` or `"${NAME}"`',
    )
    key: str = setting(
        default="",
        repr=False,
        doc="the issuer's public key: PEM, a certificate, a JSON Web Key or a set of them",
    )
    jwks: str = setting(HttpUrl(), default="", doc="where the issuer's key set is fetched")
    discovery: bool = setting(
        default=False,
        doc="whether the issuer's `/.well-known/openid-configuration` says where it is",
    )
    own: bool = setting(
        default=False,
        doc="whether it is this gateway, by `[tokens]`: tokens of sessions that have ended "
        "are refused, and `client` is the claim `client_id`",
    )
    leeway: float = setting(
        Duration(zero=True),
        default=30.0,
        doc="how far clocks may differ, for `exp`, `nbf` and `iat`",
    )
    required: tuple[str, ...] = setting(default=(), doc="claims that must be there, beside `exp`")
    type: str = setting(
        default="", doc="the `typ` a token must have; `JWT`, `at+jwt` or none when left out"
    )
    max_age: float | None = setting(
        Duration(), default=None, doc="the longest since `iat`, whatever `exp` says"
    )
    claims: ClaimsConfig = setting(default=ClaimsConfig(), doc="`[auth.jwt.claims]`")
    refresh: float = setting(
        Duration(), default=300.0, doc="how often the key set is fetched in the background"
    )
    cooldown: float = setting(
        Duration(),
        default=5.0,
        doc="the least time between two fetches, however many tokens name keys that are not known",
    )
    timeout: float = setting(Duration(), default=5.0, doc="of a fetch")


@table
class AnswerConfig(ClaimsConfig):
    """As for tokens, but that the client is who the token was issued to (RFC 7662 section 2.2)."""

    client: str = setting(default="client_id", doc="the client")


@table
class IntrospectionConfig:
    """A server that knows opaque tokens, and what its answers must say. Times in seconds."""

    url: str = setting(HttpUrl(), doc="the introspection endpoint")
    client_id: str = setting(
        default="", doc="as whom the gateway asks (Basic); no credentials when left out"
    )
    client_secret: str = setting(Secret(), default="", doc='`{ file = "..." }` or `"${NAME}"`')
    audience: tuple[str, ...] = setting(
        Texts(), default=(), doc="what `aud` must name, one of them; any when left out"
    )
    claims: AnswerConfig = setting(default=AnswerConfig(), doc="`[auth.introspection.claims]`")
    ttl: float = setting(
        Duration(zero=True),
        default=60.0,
        doc="how long an answer is remembered, but never beyond `exp`",
    )
    negative_ttl: float = setting(
        Duration(zero=True), default=10.0, doc="how long it is remembered that a token is no good"
    )
    timeout: float = setting(Duration(), default=5.0, doc="of a question")
    failures: int = setting(
        Whole(least=1),
        default=5,
        doc="failed questions in a row after which the server is left alone",
    )
    pause: float = setting(
        Duration(),
        default=10.0,
        doc="for how long; requests with tokens that are not remembered get 503 meanwhile",
    )


@table
class BasicConfig:
    """Users with passwords. Times in seconds."""

    file: str = setting(
        default="",
        doc="the user file, relative to the pipeline's file; when left out, `users.toml` beside "
        "gateway.toml",
    )
    ttl: float = setting(
        Duration(zero=True),
        default=300.0,
        doc="how long it is remembered whether credentials are good; 0 verifies every request",
    )
    attempts: AttemptsConfig = setting(
        default=AttemptsConfig(),
        doc="how many attempts may fail: `[auth.basic.attempts]`, with the keys of"
        " `[tokens.attempts]`, which counts where `[tokens]` has the same user file",
    )

    def path(self, directory: Path, home: Path) -> Path:
        """The user file. `directory`: of the pipeline's file, `home`: of gateway.toml."""
        return directory / self.file if self.file else home / "users.toml"


@table
class MtlsConfig:
    """A certificate's subject, and which caller it makes."""

    subject: str = setting(doc='as RFC 4514 writes it: `"CN=acme,O=Acme Inc"`')
    client: str = setting(FieldValue(), doc="whom it makes the caller")
    tier: str = setting(FieldValue(), default="", doc="its tier")
    roles: tuple[str, ...] = setting(Items(FieldValue()), default=(), doc="its roles")
    permissions: tuple[str, ...] = setting(Items(Permission()), default=(), doc="its permissions")


@table
class SignatureKeyConfig:
    """A key for signed requests, and which caller it makes."""

    id: str = setting(doc="the `keyid`")
    secret: str = setting(
        Secret(), doc='shared with the client, 32 bytes or more; usually `{ file = "..." }`'
    )
    client: str = setting(FieldValue(), doc="whom it makes the caller")
    base64: bool = setting(default=False, doc="whether the secret stands there in base64")
    tier: str = setting(FieldValue(), default="", doc="its tier")
    roles: tuple[str, ...] = setting(Items(FieldValue()), default=(), doc="its roles")
    permissions: tuple[str, ...] = setting(Items(Permission()), default=(), doc="its permissions")


@table
class SignatureConfig:
    """What a signature has to cover, and how old it may be. Times in seconds, sizes in bytes."""

    keys: tuple[SignatureKeyConfig, ...] = setting(default=(), doc="`[[auth.signature.keys]]`")
    required: tuple[str, ...] = setting(
        default=("@method", "@target-uri", "content-digest"),
        doc="what a signature must cover; `content-digest` only of requests with a body. "
        "`@target-uri` and `@authority`, `@path`, `@query` together stand for one another",
    )
    max_age: float = setting(
        Duration(), default=300.0, doc="since `created`, whatever `expires` says"
    )
    leeway: float = setting(Duration(zero=True), default=30.0, doc="how far clocks may differ")
    nonce: bool = setting(
        default=False,
        doc="whether there must be a nonce; one that is there is good once either way",
    )
    max_body: int = setting(
        Size(), default=2**20, doc="bodies whose digest is checked; longer ones get 413"
    )


@table
class TokenConfig:
    """The signed token that tells upstreams who is calling. Times in seconds."""

    header: str = setting(
        FieldName(),
        default="X-Client-Token",
        doc="the header it is sent in; as a Bearer token if that is `Authorization`",
    )
    issuer: str = setting(default="gateway", doc="its `iss`")
    audience: str = setting(default="", doc="its `aud`; none when left out")
    lifetime: float = setting(Duration(), default=60.0, doc="from `iat` to `exp`")
    key: str = setting(
        Secret(),
        default="",
        doc="a private key in PEM; it decides the algorithm: RS256, ES256 to ES512, EdDSA",
    )
    secret: str = setting(Secret(), default="", doc="a secret shared with the upstreams, for HS256")
    kid: str = setting(default="", doc="the name of the key, for the token's header")


@table
class BearerConfig:
    """Where Bearer tokens may come from beside Authorization, which some pages cannot send."""

    query: str = setting(
        default="", doc="a query parameter with the token; URLs end up in logs and histories"
    )
    cookie: str = setting(
        default="",
        doc="a cookie, read where neither of the others is there. Browsers send it from other sites"
        " too: give it SameSite=Lax or Strict, or let `cors` refuse other origins",
    )


@table
class AuthConfig:
    """How callers are known, and what they need."""

    methods: tuple[str, ...] = setting(
        Items(Choice(*METHODS)),
        default=("api_key",),
        doc="tried in this order; the first that finds credentials of its kind decides",
    )
    api_key: ApiKeyConfig = setting(default=ApiKeyConfig(), doc="`[auth.api_key]`")
    jwt: tuple[JwtConfig, ...] = setting(default=(), doc="`[[auth.jwt]]`")
    bearer: BearerConfig = setting(default=BearerConfig(), doc="`[auth.bearer]`")
    introspection: IntrospectionConfig | None = setting(default=None, doc="`[auth.introspection]`")
    basic: BasicConfig = setting(default=BasicConfig(), doc="`[auth.basic]`")
    mtls: tuple[MtlsConfig, ...] = setting(default=(), doc="`[[auth.mtls]]`")
    signature: SignatureConfig = setting(default=SignatureConfig(), doc="`[auth.signature]`")
    revocations: str = setting(
        Secret(),
        default="",
        doc="a file that lists revoked tokens, relative to the pipeline's file; or a Redis "
        'that does: its URL, or `"redis"` for what `[store]` `url` names '
        "([guide](auth.md#revoking-tokens)); none when left out",
    )
    shadow: bool = setting(
        default=False,
        doc="refuse nothing and change nothing: what would be refused is only counted, logged and "
        "remembered ([explain.md](explain.md#before-it-is-switched-on))",
    )
    require: Mapping[str, frozenset[str]] = setting(
        Require(),
        default_factory=dict,
        doc='permissions the caller needs, all of them: `["cameras:read"]`, or by method: `{ '
        'GET = ["cameras:read"], "*" = ["cameras:write"] }`',
    )
    roles: Mapping[str, tuple[str, ...]] = setting(
        Map(keys=Text(), values=Items(Permission())),
        default_factory=dict,
        doc='permissions that come with a role: `roles.operator = ["cameras:read"]`',
    )
    tiers: tuple[str, ...] = setting(
        default=(), doc="the tiers that may, the least first; all when left out"
    )
    owner: Mapping[str, str] = setting(
        default_factory=dict,
        doc='a claim by path parameter; both must be the same: `owner.id = "sub"` keeps '
        '`/users/{id}` for that user. `"client"` is the client\'s name',
    )
    owner_except: tuple[str, ...] = setting(
        Items(Permission()),
        default=(),
        doc="permissions (all of them) with which `owner` does not apply",
    )
    allow: tuple[Network, ...] = setting(
        Items(schema.Network()), default=(), doc="networks that may; all when left out"
    )
    deny: tuple[Network, ...] = setting(
        Items(schema.Network()), default=(), doc="networks that may not, whatever `allow` says"
    )
    optional: bool = setting(
        default=False,
        doc="callers without credentials pass where nothing is required; wrong ones do not",
    )
    recheck: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how often the credentials of an open WebSocket are looked at again: one whose token "
        "has expired, or whose key or session was revoked, ends with close code 1008. 0 is never "
        "([guide](auth.md#websockets))",
    )
    realm: str = setting(
        FieldValue(), default="gateway", doc="what WWW-Authenticate says the credentials are for"
    )
    forward_credentials: bool = setting(
        default=False, doc="whether the upstream sees the credentials"
    )
    forward: str = setting(
        Choice("headers", "token"),
        default="headers",
        doc="how the upstream is told who is calling: `headers` in X-Client-ID, -Tier and "
        "-Roles; `token` in a short-lived signed token instead",
    )
    token: TokenConfig = setting(default=TokenConfig(), doc="`[auth.token]`")
    audit: AuditConfig | None = setting(
        default=None, doc="`[auth.audit]`; no such log when left out"
    )
