"""Answer login, refresh, logout, profile, change_password and jwks: `[tokens]` over HTTP.

JSON in, at most 16 KiB, and JSON out; only the key set may be stored. Every decision is counted
and audited.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.credentials.audit import Audit
from gateway.issuer.passwords import LONGEST
from gateway.issuer.service import CHALLENGE, Denied, Issued, TokenService, invalid_field
from gateway.store.stores import StoreDown
from gateway.tokens.jose import unique_names

MOST = 16 * 1024
"""Bytes of a request's body."""
LONGEST_NAME = 256
KEYS_FOR = 300
"""Seconds for which others may keep the key set; they need not ask for each token."""

Answer = Callable[[Exchange], Awaitable[Reply]]

_PUBLIC = (
    (b"Content-Type", b"application/jwk-set+json"),
    (b"Cache-Control", b"public, max-age=%d" % KEYS_FOR),
)
_JSON = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


class TokenAnswers:
    """The answers to one `[tokens]`."""

    def __init__(
        self,
        tokens: TokenService,
        audit: Audit | None,
        telemetry: Telemetry,
        refresh_threshold: float = 0.0,
    ) -> None:
        self._tokens = tokens
        self._threshold = refresh_threshold
        self._audit = audit
        self._counts = telemetry.auth
        self._keys = orjson.dumps(tokens.keys.document)

    def answer(self, name: str) -> Answer:
        """The one that a route calls `builtin` (config.tokens.BUILTINS)."""
        answers: Mapping[str, tuple[Answer, tuple[str, ...]]] = {
            "login": (self.login, ("POST",)),
            "refresh": (self.refresh, ("POST",)),
            "logout": (self.logout, ("POST",)),
            "profile": (self.profile, ("GET", "HEAD")),
            "change_password": (self.change_password, ("POST",)),
            "jwks": (self.jwks, ("GET", "HEAD")),
        }
        made, methods = answers[name]
        allow = ", ".join(methods).encode()

        async def answered(exchange: Exchange) -> Reply:
            if exchange.method not in methods:
                raise Failed(Failure.METHOD_NOT_ALLOWED, headers=((b"Allow", allow),))
            try:
                return await made(exchange)
            except Denied as denied:
                user = denied.user or _user_of(exchange)
                self._written(
                    exchange, name, denied.result, user, denied.session, denied.why, client=""
                )
                denied.failed.why = denied.failed.why or denied.why
                denied.failed.by = name
                raise denied.failed from None
            except StoreDown as down:
                self._written(
                    exchange, name, "unavailable", _user_of(exchange), "", str(down), client=""
                )
                why = f"the store: {down}"
                raise Failed(
                    Failure.NO_ENDPOINT, headers=((b"Retry-After", b"1"),), why=why, by=name
                ) from None

        return answered

    async def login(self, exchange: Exchange) -> Reply:
        """{"username", "password", "code"?} for tokens."""
        body = await _body(exchange, ("username", "password"), ("code",))
        if len(body["username"]) > LONGEST_NAME:
            raise invalid_field("username", f"must have {LONGEST_NAME} letters at most")
        if len(body["password"].encode()) > LONGEST:
            raise invalid_field("password", f"must have {LONGEST} bytes at most")
        issued = await self._tokens.login(
            body["username"], body["password"], body.get("code"), exchange.client_ip
        )
        return self._issued(exchange, "login", issued)

    async def refresh(self, exchange: Exchange) -> Reply:
        """{"refresh_token"} for the next tokens."""
        body = await _body(exchange, ("refresh_token",))
        return self._issued(exchange, "refresh", await self._tokens.refresh(body["refresh_token"]))

    async def logout(self, exchange: Exchange) -> Reply:
        """End the session of the access token and that of {"refresh_token"}.

        Tokens that have ended already are no error (RFC 7009 section 2.2).
        """
        claims = _claims(exchange)
        mine = (
            claims["sid"]
            if claims.get("iss") == self._tokens.issuer and isinstance(claims.get("sid"), str)
            else ""
        )
        body = (
            await _body(exchange, (), ("refresh_token",))
            if exchange.body is not None or not mine
            else {}
        )
        token = body.get("refresh_token", "")
        if not mine and not token:
            failed = Failed(
                Failure.UNAUTHENTICATED,
                "This needs an access token or a refresh token.",
                headers=CHALLENGE,
            )
            raise Denied("missing", "neither an access token nor a refresh token", failed)
        ended = await self._tokens.logout(mine, token)
        if ended is not None:
            self._written(
                exchange, "logout", "ok", ended.user, ended.id, "", client=_client_of(exchange)
            )
        return Reply(204, _JSON[1:])

    async def profile(self, exchange: Exchange) -> Reply:
        """Return who the caller is."""
        user, _ = await self._tokens.known(_claims(exchange))
        tokens = self._tokens
        return _json(
            {
                "username": user.name,
                "client": user.client,
                "tier": user.tier or None,
                "roles": sorted(user.roles),
                "permissions": sorted(
                    exchange.identity.permissions
                    if exchange.identity is not None
                    else user.permissions
                ),
                "second_factor": bool(user.totp),
                "sessions": await tokens.sessions.count(
                    user.name, tokens.clock.wall(), tokens.limits
                ),
            }
        )

    async def change_password(self, exchange: Exchange) -> Reply:
        """{"old_password", "new_password"}."""
        user, session = await self._tokens.known(_claims(exchange))
        body = await _body(exchange, ("old_password", "new_password"))
        old, new = body["old_password"], body["new_password"]
        if len(old.encode()) > LONGEST:
            raise invalid_field("old_password", f"must have {LONGEST} bytes at most")
        ended = await self._tokens.change_password(user, session, old, new, exchange.client_ip)
        why = f"{ended} other sessions have ended"
        self._written(
            exchange, "change_password", "ok", user.name, session.id, why, client=user.client
        )
        return Reply(204, _JSON[1:])

    async def jwks(self, exchange: Exchange) -> Reply:
        """The public keys (RFC 7517)."""
        return Reply(200, _PUBLIC, self._keys)

    def _issued(self, exchange: Exchange, event: str, issued: Issued) -> Reply:
        user = issued.user
        # For the access log; nothing is forwarded from here.
        exchange.identity = Identity(user.client, event, user.tier, user.name)
        self._written(exchange, event, "ok", user.name, issued.session.id, "", client=user.client)
        answer: dict[str, str | int] = {
            "access_token": issued.access,
            "token_type": "Bearer",
            "expires_in": issued.expires,
            "refresh_token": issued.refresh,
            "refresh_expires_in": issued.refresh_expires,
        }
        if self._threshold:
            answer["refresh_after"] = max(0, int(issued.expires - self._threshold))
        return _json(answer)

    def _written(
        self,
        exchange: Exchange,
        event: str,
        result: str,
        user: str,
        session: str,
        why: str,
        *,
        client: str,
    ) -> None:
        self._counts.add((event, result))
        if self._audit is not None:
            self._audit.session_event(exchange, event, result, client, user, session, why)


async def _body(
    exchange: Exchange, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the fields of a JSON object, all of them text.

    Raises Failed: 400 for a body that is none, 413, 415, 422.
    """
    headers = exchange.headers
    media = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if (
        media != "application/json"
        or headers.get("Content-Encoding", "identity").lower() != "identity"
    ):
        raise Failed(
            Failure.UNSUPPORTED_MEDIA_TYPE, "This needs application/json without a content coding."
        )
    data = await exchange.body.whole(MOST) if exchange.body is not None else b""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique_names)
        if not isinstance(found, dict):
            raise ValueError
        # Raises UnicodeEncodeError, a ValueError, for lone surrogates.
        "".join(text for text in found.values() if isinstance(text, str)).encode()
    except (ValueError, RecursionError):
        raise Failed(Failure.MALFORMED, "The body must be one JSON object in UTF-8.") from None
    missing = [name for name in needed if name not in found]
    if missing:
        errors = [
            {"field": name, "code": "required", "message": f"{name} is missing"} for name in missing
        ]
        raise Failed(
            Failure.MISSING_FIELD, f"The body needs {' and '.join(missing)}.", errors=errors
        )
    body = {
        name: found[name]
        for name in (*needed, *optional)
        if found.get(name) is not None or name in needed
    }
    for name, value in body.items():
        if not isinstance(value, str):
            raise invalid_field(name, "must be a string")
    return body


def _claims(exchange: Exchange) -> Mapping[str, Any]:
    """Return the claims of the access token, empty if the caller came by other means."""
    identity = exchange.identity
    return identity.claims if identity is not None and identity.method == "jwt" else {}


def _user_of(exchange: Exchange) -> str:
    return exchange.identity.user if exchange.identity is not None else ""


def _client_of(exchange: Exchange) -> str:
    return exchange.identity.client if exchange.identity is not None else ""


def _json(value: object) -> Reply:
    return Reply(200, _JSON, orjson.dumps(value))
