"""Build `[tokens]`: load keys and users, keep what outlives a reload, return the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from gateway.builtins.tokens import Answer, TokenAnswers
from gateway.config.tables.tokens import USERS_IN_STORE, TokensConfig
from gateway.core.clock import Clock
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.telemetry import Telemetry
from gateway.credentials.audit import Audit, log_file
from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_file
from gateway.credentials.users.user_store import FileUsers, UserStore
from gateway.issuer.attempts import Attempts, LocalAttempts, rules_of
from gateway.issuer.kept import ATTEMPTS, SESSIONS, KeptAttempts, KeptSessions
from gateway.issuer.own import OwnIssuer
from gateway.issuer.password_policy import PasswordPolicy
from gateway.issuer.passwords import Passwords
from gateway.issuer.service import TokenService
from gateway.issuer.sessions import LocalSessions, SessionLimits, Sessions
from gateway.lifetime.watch import stamp
from gateway.store.stores import StoreDown
from gateway.tokens import signing
from gateway.tokens.signing import BadSigningKey, SigningKeys

log = logging.getLogger("gateway.tokens")


@dataclass(frozen=True, slots=True)
class Issuing:
    """The answers by name, and the issuer for `[[auth.jwt]] own = true`."""

    answer: Callable[[str], Answer]
    issuer: OwnIssuer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What `[tokens]` is built with, as core.hooks.Context has it."""

    directory: Path
    keep: Callable[[tuple[str, ...], object, Callable[[], Any]], Any]
    clock: Clock
    telemetry: Telemetry
    store: Any
    local: Any = None


def issuing(config: TokensConfig, around: Surroundings) -> Issuing:
    """Raises ConfigProblem."""
    keys = _keys(config)
    limits = _session_limits(config)
    sessions, attempts, users = _states(config, around)
    argon2 = config.argon2
    memory = argon2.memory // 1024
    if memory < 8 * argon2.lanes:
        raise ConfigProblem(
            "argon2.memory: must be 8 KiB a lane or more (RFC 9106 section 3.1)",
            at=("argon2", "memory"),
        )
    passwords: Passwords = around.keep(
        ("tokens", "passwords"),
        argon2,
        lambda: Passwords(memory, argon2.passes, argon2.lanes, waiting=argon2.waiting),
    )
    tokens = TokenService(
        config.issuer,
        config.audience,
        config.access,
        limits,
        keys,
        users,
        sessions,
        attempts,
        passwords,
        around.clock,
        PasswordPolicy.of(config.password),
    )
    audit = None
    if config.audit is not None:
        audit = Audit(
            log_file(config.audit.file, around.directory, around.keep, "audit: "), around.clock.wall
        )
    file = None if config.users == USERS_IN_STORE else (around.directory / config.users).resolve()
    answers = TokenAnswers(tokens, audit, around.telemetry, config.refresh_threshold)
    return Issuing(answers.answer, OwnIssuer(config.issuer, keys, sessions, attempts, file))


def _session_limits(config: TokensConfig) -> SessionLimits:
    """The bounds of sessions. Raises ConfigProblem where clients could not keep within them."""
    limits = SessionLimits(
        config.sessions.idle,
        config.refresh,
        config.sessions.per_user,
        config.sessions.total,
        config.access,
        inf if config.sessions.renewal_threshold is None else config.sessions.renewal_threshold,
    )
    if limits.idle <= config.access:
        hint = "sessions are refreshed when an access token expires: make idle longer than access"
        message = f"sessions.idle: {limits.idle:g} s, and access tokens live {config.access:g} s"
        raise ConfigProblem(message, at=("sessions", "idle"), hint=hint)
    if limits.renewal < config.access:
        raise ConfigProblem(
            f"sessions.renewal_threshold: {limits.renewal:g} s, and access tokens live "
            f"{config.access:g} s",
            at=("sessions", "renewal_threshold"),
            hint="a client that refreshes when its token expires could miss it: make it access "
            "or longer",
        )
    return limits


def _keys(config: TokensConfig) -> SigningKeys:
    if not config.keys:
        raise ConfigProblem(
            "keys: there is none to sign with",
            at=("keys",),
            hint='[[tokens.keys]] key = { file = "..." }',
        )
    loaded: list[signing.SigningKey] = []
    for index, one in enumerate(config.keys):
        try:
            if one.secret:
                key = signing.load_secret(one.secret, one.kid)
            else:
                key = signing.load(one.key, one.kid)
        except BadSigningKey as bad:
            at = ("keys", index, "secret" if one.secret else "key")
            raise ConfigProblem(f"keys: {bad}", at=at) from None
        if key.kid and key.kid in {other.kid for other in loaded}:
            raise ConfigProblem(f"keys: there are two called {key.kid}", at=("keys", index))
        loaded.append(key)
    return SigningKeys(loaded)


def _states(config: TokensConfig, around: Surroundings) -> tuple[Sessions, Attempts, UserStore]:
    """Return sessions, attempts and users: of this process and a file, or of the shared store."""
    if around.store is None:
        return _own_states(config, around)
    from gateway.credentials.users.redis_users import RedisUsers
    from gateway.issuer.shared_attempts import SharedAttempts
    from gateway.issuer.shared_sessions import SharedSessions
    from gateway.store.redis.client import client_of

    context = Context(
        "tokens",
        clock=around.clock,
        telemetry=around.telemetry,
        keep=around.keep,
        store=around.store,
    )
    reader = client_of("redis", config.deadline, context)
    shared: Sessions = around.keep(
        ("tokens", "sessions", "shared"), reader, lambda: SharedSessions(reader)
    )
    users = (
        RedisUsers(reader)
        if config.users == USERS_IN_STORE
        else _file_users(config, around, shared)
    )
    key, rules = ("tokens", "attempts", "shared"), config.attempts
    return (
        shared,
        around.keep(key, (reader, rules), lambda: SharedAttempts(reader, *rules_of(rules))),
        users,
    )


def _own_states(config: TokensConfig, around: Surroundings) -> tuple[Sessions, Attempts, UserStore]:
    """Return those of this process, or of its supervisor, and a file."""
    if config.users == USERS_IN_STORE:
        hint = 'url = "redis://host:6379/0" in [store], or a file'
        raise ConfigProblem(
            f'users: "{USERS_IN_STORE}" is what [store] url names, and that is no Redis',
            at=("users",),
            hint=hint,
        )
    rules, local = config.attempts, around.local

    def make_sessions() -> Sessions:
        if local is not None:
            return KeptSessions(local, around.clock)
        return LocalSessions(float(int(around.clock.wall())))

    def make_attempts() -> Attempts:
        return LocalAttempts(*rules_of(rules)) if local is None else KeptAttempts(local, ATTEMPTS)

    sessions: Sessions = around.keep(SESSIONS, local, make_sessions)
    attempts: Attempts = around.keep(ATTEMPTS, rules, make_attempts)
    return sessions, attempts, _file_users(config, around, sessions)


def _file_users(config: TokensConfig, around: Surroundings, sessions: Sessions) -> UserStore:
    path = around.directory / config.users
    try:
        seen, loaded = stamp(path), user_file.load(path)
    except CredentialError as error:
        hint = "" if path.exists() else f"make one: gateway users add NAME --file {config.users}"
        raise ConfigProblem(f"users: {error}", at=("users",), hint=hint) from None
    users: FileUsers = around.keep(
        ("tokens", "users", str(path)), sessions, lambda: FileUsers(path, loaded, seen)
    )
    if not users.listeners:
        users.listeners.add(Ending(sessions))
    return users


class Ending:
    """End the sessions of users who are gone or whose password was changed elsewhere.

    While the store is away such sessions are refused when they are refreshed.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, name: str, moment: float) -> None:
        task = asyncio.get_running_loop().create_task(self._end(name, moment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, name: str, moment: float) -> None:
        try:
            ended = await self._sessions.end_before(name, moment)
        except StoreDown as down:
            log.warning("the sessions of %s cannot be ended: %s", name, down)
        else:
            if ended:
                log.info("%d sessions of %s have ended: the user was changed", ended, name)
