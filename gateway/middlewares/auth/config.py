"""What `[auth]` and the tables below it may say. The methods themselves are not imported here (methods.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables import schema
from gateway.config.tables.schema import (
    Boolean,
    Choice,
    Duration,
    FieldName,
    FieldValue,
    HttpUrl,
    Items,
    Map,
    Secret,
    Size,
    SubTable,
    Table,
    Text,
    Whole,
)
from gateway.credentials.audit import AuditConfig, AuditTable
from gateway.middlewares.auth.permissions import Permission, Require
from gateway.middlewares.auth.rules import Network
from gateway.store import stores
from gateway.tokens.algorithms import ALGORITHMS
from gateway.tokens.claims import ClaimsConfig, ClaimsTable, Texts

METHODS = ("api_key", "jwt", "introspection", "basic", "mtls", "signature")


@dataclass(frozen=True, slots=True)
class ApiKeyConfig:
    """Where keys are: in the field `header`, also in the query parameter `query` ("" for not there), and in the key file.

    A key in a URL ends up in histories, logs and Referer fields, so `query` has to be asked for.
    store:    a Redis that has the keys instead of the file: its URL, or "redis" for the one `[store] url` names.
    deadline: seconds that a request waits for the store at most.
    on_store_failure: whether keys that are known go on while it is away ("cached", for `stale` seconds) or none do ("closed").
    """

    header: str = "X-API-Key"
    query: str = ""
    file: str = "keys.toml"
    store: str = field(default="", repr=False)
    deadline: float = 0.1
    on_store_failure: str = "cached"
    stale: float = 3600.0


class SharedStore(Secret):
    """The URL of a Redis, or "redis" for the one that `[store] url` names."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if value != "redis" and (value.startswith("memory:") or not stores.is_url(value)):
            raise ValidationError(f'must be "redis", for what [store] url names, or begin with {stores.SCHEMES}')
        return value


class ApiKeyTable(Table):
    makes = ApiKeyConfig
    header = FieldName()
    query = Text()
    file = Text()
    store = SharedStore()
    deadline = Duration()
    on_store_failure = Choice("cached", "closed")
    stale = Duration()


@dataclass(frozen=True, slots=True)
class JwtConfig:
    """One issuer. Exactly one of `secret`, `key`, `jwks`, `discovery` and `own` says where its keys are. Times in seconds.

    own: it is this gateway, as `[tokens]` has it; a token of a session that has ended is then refused.
    algorithms: those allowed; () for HS256 with a secret, else for algorithms.USUAL.
    required: claims that must be there, beside exp. type: the `typ` tokens must have. max_age: since iat.
    refresh, cooldown, timeout: of fetched keys, as state.jwks has them.
    """

    issuer: str = ""
    audience: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    jwks: str = ""
    discovery: bool = False
    own: bool = False
    leeway: float = 30.0
    required: tuple[str, ...] = ()
    type: str = ""
    max_age: float | None = None
    claims: ClaimsConfig = field(default_factory=ClaimsConfig)
    refresh: float = 300.0
    cooldown: float = 5.0
    timeout: float = 5.0


class JwtTable(Table):
    makes = JwtConfig
    issuer = Text(required=True)
    audience = Texts()
    algorithms = Items(Choice(*ALGORITHMS))
    secret = Secret()
    key = Text()
    jwks = HttpUrl()
    discovery = Boolean()
    own = Boolean()
    leeway = Duration(zero=True)
    required = Items(Text())
    type = Text()
    max_age = Duration()
    claims = SubTable(ClaimsTable)
    refresh = Duration()
    cooldown = Duration()
    timeout = Duration()


@dataclass(frozen=True, slots=True)
class AnswerConfig(ClaimsConfig):
    """As for tokens, but that the client is who the token was issued to (RFC 7662 section 2.2)."""

    client: str = "client_id"


class AnswerTable(ClaimsTable):
    makes = AnswerConfig


@dataclass(frozen=True, slots=True)
class IntrospectionConfig:
    """The server and what its answers must say. Times in seconds; `ttl` and `negative_ttl`: how long answers are remembered."""

    url: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    audience: tuple[str, ...] = ()
    claims: AnswerConfig = field(default_factory=AnswerConfig)
    ttl: float = 60.0
    negative_ttl: float = 10.0
    timeout: float = 5.0
    failures: int = 5
    pause: float = 10.0


class IntrospectionTable(Table):
    makes = IntrospectionConfig
    url = HttpUrl(required=True)
    client_id = Text()
    client_secret = Secret()
    audience = Texts()
    claims = SubTable(AnswerTable)
    ttl = Duration(zero=True)
    negative_ttl = Duration(zero=True)
    timeout = Duration()
    failures = Whole(least=1)
    pause = Duration()


@dataclass(frozen=True, slots=True)
class BasicConfig:
    """The user file, and for how many seconds credentials found good or wrong are remembered."""

    file: str = "users.toml"
    ttl: float = 300.0


class BasicTable(Table):
    makes = BasicConfig
    file = Text()
    ttl = Duration(zero=True)


@dataclass(frozen=True, slots=True)
class MtlsConfig:
    """One subject, as RFC 4514 writes it ("CN=acme,O=Acme Inc"), and whom it makes the caller."""

    subject: str = ""
    client: str = ""
    tier: str = ""
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


class MtlsTable(Table):
    makes = MtlsConfig
    subject = Text(required=True)
    client = FieldValue(required=True)
    tier = FieldValue()
    roles = Items(FieldValue())
    permissions = Items(Permission())


@dataclass(frozen=True, slots=True)
class SignatureKeyConfig:
    """A key by its `id` (keyid), the secret shared with the client (base64 if so said), and whom it makes the caller."""

    id: str = ""
    secret: str = field(default="", repr=False)
    base64: bool = False
    client: str = ""
    tier: str = ""
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignatureConfig:
    """What a signature has to cover, and how old it may be in seconds.

    required: components; "content-digest" only of requests with a body. nonce: whether there must be one.
    leeway: how far clocks may differ. max_body: bytes of a body that are read for its digest.
    """

    keys: tuple[SignatureKeyConfig, ...] = ()
    required: tuple[str, ...] = ("@method", "@target-uri", "content-digest")
    max_age: float = 300.0
    leeway: float = 30.0
    nonce: bool = False
    max_body: int = 2**20


class SignatureKeyTable(Table):
    makes = SignatureKeyConfig
    id = Text(required=True)
    secret = Secret(required=True)
    base64 = Boolean()
    client = FieldValue(required=True)
    tier = FieldValue()
    roles = Items(FieldValue())
    permissions = Items(Permission())


class SignatureTable(Table):
    makes = SignatureConfig
    keys = Items(SubTable(SignatureKeyTable))
    required = Items(Text())
    max_age = Duration()
    leeway = Duration(zero=True)
    nonce = Boolean()
    max_body = Size()


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """What the token says and how it is signed: with `key` (a private key in PEM) or `secret`. Times in seconds."""

    header: str = "X-Client-Token"
    issuer: str = "gateway"
    audience: str = ""
    lifetime: float = 60.0
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    kid: str = ""


class TokenTable(Table):
    makes = TokenConfig
    header = FieldName()
    issuer = Text()
    audience = Text()
    lifetime = Duration()
    key = Secret()
    secret = Secret()
    kid = Text()


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """How callers are known (`methods`, in this order) and what they need.

    revocations: the file that lists revoked tokens, the URL of a Redis that does, or "redis" for the one that `[store] url`
              names; "" for none.
    require:  permissions, all of them needed: a list for every method, or a table of lists by method with "*" for the others.
    roles:    the permissions that come with a role, beyond those of the caller's own.
    tiers:    the tiers that may; all when empty.
    owner:    claims by path parameter: the one must be the other, so that `/users/{id}` is for `sub` alone; "client" is the
              client's name. owner_except: the permissions (all of them) with which it need not.
    allow, deny: networks, asked before anything else; deny weighs more, and without `allow` all others may.
    optional: callers without credentials pass as nobody in particular wherever `require` asks for nothing; credentials that
              are wrong are refused all the same.
    realm:    what a challenge (WWW-Authenticate) says the credentials are for.
    forward_credentials: whether the upstream sees them.
    forward:  how the upstream is told who is calling: in plain fields ("headers"), or in a signed `token`.
    audit:    the log of decisions, None for none.
    """

    methods: tuple[str, ...] = ("api_key",)
    api_key: ApiKeyConfig = field(default_factory=ApiKeyConfig)
    jwt: tuple[JwtConfig, ...] = ()
    introspection: IntrospectionConfig | None = None
    basic: BasicConfig = field(default_factory=BasicConfig)
    mtls: tuple[MtlsConfig, ...] = ()
    signature: SignatureConfig = field(default_factory=SignatureConfig)
    revocations: str = field(default="", repr=False)
    require: Mapping[str, frozenset[str]] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tiers: tuple[str, ...] = ()
    owner: Mapping[str, str] = field(default_factory=dict)
    owner_except: tuple[str, ...] = ()
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    optional: bool = False
    realm: str = "gateway"
    forward_credentials: bool = False
    forward: str = "headers"
    token: TokenConfig = field(default_factory=TokenConfig)
    audit: AuditConfig | None = None


class AuthTable(Table):
    makes = AuthConfig
    methods = Items(Choice(*METHODS))
    api_key = SubTable(ApiKeyTable)
    jwt = Items(SubTable(JwtTable))
    introspection = SubTable(IntrospectionTable)
    basic = SubTable(BasicTable)
    mtls = Items(SubTable(MtlsTable))
    signature = SubTable(SignatureTable)
    revocations = Secret()
    require = Require()
    roles = Map(keys=Text(), values=Items(Permission()))
    tiers = Items(Text())
    owner = Map(keys=Text(), values=Text())
    owner_except = Items(Permission())
    allow = Items(schema.Network())
    deny = Items(schema.Network())
    optional = Boolean()
    realm = FieldValue()
    forward_credentials = Boolean()
    forward = Choice("headers", "token")
    token = SubTable(TokenTable)
    audit = SubTable(AuditTable)
