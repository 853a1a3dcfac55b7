"""`[tokens]`: the gateway as an issuer of tokens."""

from __future__ import annotations

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Duration, Items, Secret, Size, Whole

BUILTINS = ("login", "refresh", "logout", "profile", "change_password", "jwks")
"""The gateway's own answers that need `[tokens]`."""
LONGEST_ACCESS = 86400.0
USERS_IN_STORE = "redis"
"""What `users` says instead of a file's name."""


@table
class SigningKeyConfig:
    """What signs tokens: a private key, or a secret that all who verify them share."""

    key: str = setting(
        Secret(),
        default="",
        doc='a private key, PEM, not encrypted: `key = { file = "signing.pem" }`',
    )
    secret: str = setting(
        Secret(),
        default="",
        doc="in its place: a secret of 32 bytes or more, for HS256. Who can verify can sign, so it "
        "is never published",
    )
    kid: str = setting(
        default="",
        doc="its name; when left out a key's thumbprint (RFC 7638), and none of a secret",
    )

    def check(self) -> None:
        if bool(self.key) == bool(self.secret):
            raise ValidationError("must have one of key and secret", "key")


@table
class SessionsConfig:
    """How many sessions there may be, and when one ends."""

    per_user: int = setting(
        Whole(least=1, most=1000), default=5, doc="sessions of one user; one more ends the oldest"
    )
    total: int = setting(
        Whole(least=1),
        default=100_000,
        doc="sessions of all users; one more ends the one that was refreshed longest ago",
    )
    idle: float = setting(
        Duration(),
        default=1800.0,
        doc="a session that is not refreshed for so long has ended; longer than `access`",
    )
    renewal_threshold: float | None = setting(
        Duration(),
        default=None,
        doc="a refresh prolongs a session that has less than this left of `idle`; without it, "
        "each refresh does",
    )

    def check(self) -> None:
        if self.renewal_threshold is not None and self.renewal_threshold > self.idle:
            raise ValidationError("must not be longer than idle", "renewal_threshold")


@table
class AttemptsConfig:
    """How many logins may fail before an account or an address has to wait."""

    account: int = setting(
        Whole(least=1), default=5, doc="attempts at one account before it has to wait"
    )
    ip: int = setting(Whole(least=1), default=20, doc="attempts from one address, of IPv6 one /64")
    delay: float = setting(
        Duration(), default=1.0, doc="the first wait; each further attempt doubles it"
    )
    max_delay: float = setting(Duration(), default=300.0, doc="the longest wait")
    forget: float = setting(
        Duration(), default=3600.0, doc="without an attempt for so long, all is forgotten"
    )


@table
class Argon2Config:
    """What a new password hash costs (Argon2id, RFC 9106)."""

    memory: int = setting(
        Size(),
        default=64 * 1024 * 1024,
        doc="for one password, while it is verified; one a core is verified at a time",
    )
    passes: int = setting(Whole(least=1, most=1000), default=3, doc="over that memory")
    lanes: int = setting(
        Whole(least=1, most=255), default=4, doc="that can be worked on side by side"
    )
    waiting: int = setting(
        Whole(least=1, most=10_000),
        default=100,
        doc="passwords that may wait to be verified; more are answered 503 with Retry-After",
    )


@table
class PasswordConfig:
    """What a new password must be like; 8 to 1024 bytes in any case."""

    min_length: int = setting(
        Whole(least=8, most=256), default=8, doc="characters that it has at least"
    )
    require: tuple[str, ...] = setting(
        Items(Choice("lower", "upper", "digit", "symbol")),
        default=(),
        doc="kinds of characters it must have: `lower`, `upper`, `digit`, `symbol`",
    )
    denied: str = setting(
        default="", doc='passwords that are refused, one a line: `{ file = "common.txt" }`'
    )


@table
class AuditConfig:
    """The log of logins, refreshes, logouts and changes of passwords."""

    file: str = setting(
        default="-", doc='a path, or `"-"` for standard output; may be the file of `[auth.audit]`'
    )


def _access(seconds: float) -> None:
    if seconds > LONGEST_ACCESS:
        raise ValidationError(
            "must be a day at most: until it expires, others who verify a token do not learn "
            "of "
            "a logout"
        )


@table
class TokensConfig:
    """The gateway as an issuer of tokens. Times in seconds."""

    issuer: str = setting(doc="the tokens' `iss`, usually a URL")
    keys: tuple[SigningKeyConfig, ...] = setting(doc="what they are signed with: `[[tokens.keys]]`")
    audience: str = setting(
        default="", doc="the tokens' `aud`; services that verify them must name it then"
    )
    access: float = setting(
        Duration(),
        default=900.0,
        check=_access,
        doc="how long an access token lives, a day at most",
    )
    refresh_threshold: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long before an access token expires clients are told to refresh: `refresh_after` "
        "in answers; left out when 0",
    )
    refresh: float = setting(
        Duration(),
        default=7 * 86400.0,
        doc="how long a session can be refreshed, from the login on",
    )
    users: str = setting(
        default="users.toml",
        doc='the user file, or `"redis"` for the Redis that `[store]` names. The file and its'
        " folder must be writable for passwords to be changed",
    )
    deadline: float = setting(
        Duration(),
        default=1.0,
        doc="how long an answer of the store is waited for; `[store]`'s own is for limits",
    )
    sessions: SessionsConfig = setting(default=SessionsConfig(), doc="`[tokens.sessions]`")
    attempts: AttemptsConfig = setting(default=AttemptsConfig(), doc="`[tokens.attempts]`")
    argon2: Argon2Config = setting(
        default=Argon2Config(), doc="what a password costs: `[tokens.argon2]`"
    )
    password: PasswordConfig = setting(
        default=PasswordConfig(), doc="what a new password must be like: `[tokens.password]`"
    )
    audit: AuditConfig | None = setting(
        default=None, doc="the log of logins, refreshes, logouts and passwords: `[tokens.audit]`"
    )

    def check(self) -> None:
        if self.refresh_threshold >= self.access:
            raise ValidationError("must be shorter than access", "refresh_threshold")
