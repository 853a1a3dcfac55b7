"""`[tokens]`: the gateway as an issuer of tokens, for the answers login, refresh, logout, profile, change_password and jwks."""

from __future__ import annotations

from dataclasses import dataclass, field

from marshmallow import ValidationError, validates

from gateway.config.tables.schema import Duration, Items, Secret, Size, SubTable, Table, Text, Whole

BUILTINS = ("login", "refresh", "logout", "profile", "change_password", "jwks")
"""The answers that need `[tokens]`."""
LONGEST_ACCESS = 86400.0
USERS_IN_STORE = "redis"
"""What `users` says instead of a file's name."""


@dataclass(frozen=True, slots=True)
class SigningKeyConfig:
    """A private key in PEM, and what it is called; its thumbprint (RFC 7638) when left out."""

    key: str = field(repr=False)
    kid: str = ""


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    """How many a user has (the oldest goes), how many there are (the one not refreshed for longest goes), and seconds without
    a refresh after which one ends."""

    per_user: int = 5
    total: int = 100_000
    idle: float = 1800.0


@dataclass(frozen=True, slots=True)
class AttemptsConfig:
    """How many failed attempts in a row an account and an address have before they wait: `delay` seconds, then twice as long,
    up to `max_delay`. After `forget` seconds without one all is forgotten."""

    account: int = 5
    ip: int = 20
    delay: float = 1.0
    max_delay: float = 300.0
    forget: float = 3600.0


@dataclass(frozen=True, slots=True)
class Argon2Config:
    """What new hashes cost (RFC 9106): bytes of memory, passes over it, lanes; `waiting`: passwords that may wait."""

    memory: int = 64 * 1024 * 1024
    passes: int = 3
    lanes: int = 4
    waiting: int = 100


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The file, "-" for standard output."""

    file: str = "-"


@dataclass(frozen=True, slots=True)
class TokensConfig:
    """Who issues, for whom, signed with what. `users`: the user file, or "redis" for the Redis that `[store] url` names. Times in
    seconds."""

    issuer: str
    keys: tuple[SigningKeyConfig, ...]
    audience: str = ""
    access: float = 900.0
    refresh: float = 7 * 86400.0
    users: str = "users.toml"
    sessions: SessionsConfig = SessionsConfig()
    attempts: AttemptsConfig = AttemptsConfig()
    argon2: Argon2Config = Argon2Config()
    audit: AuditConfig | None = None


class SigningKeyTable(Table):
    makes = SigningKeyConfig
    key = Secret(required=True)
    kid = Text()


class SessionsTable(Table):
    makes = SessionsConfig
    per_user = Whole(least=1, most=1000)
    total = Whole(least=1)
    idle = Duration()


class AttemptsTable(Table):
    makes = AttemptsConfig
    account = Whole(least=1)
    ip = Whole(least=1)
    delay = Duration()
    max_delay = Duration()
    forget = Duration()


class Argon2Table(Table):
    makes = Argon2Config
    memory = Size()
    passes = Whole(least=1, most=1000)
    lanes = Whole(least=1, most=255)
    waiting = Whole(least=1, most=10_000)


class AuditTable(Table):
    makes = AuditConfig
    file = Text()


class TokensTable(Table):
    makes = TokensConfig
    issuer = Text(required=True)
    keys = Items(SubTable(SigningKeyTable), required=True)
    audience = Text()
    access = Duration()
    refresh = Duration()
    users = Text()
    sessions = SubTable(SessionsTable)
    attempts = SubTable(AttemptsTable)
    argon2 = SubTable(Argon2Table)
    audit = SubTable(AuditTable)

    @validates("access")
    def _access(self, value: float, data_key: str) -> None:
        if value > LONGEST_ACCESS:
            raise ValidationError("must be a day at most: until it expires, others who verify a token do not learn of a logout")
