"""`builtin = "portal"`: the page and its files, sessions, and what a session may ask for.

The route's own `auth` is asked here, not before: with the credential that comes to log in, and then
with that of the session. What changes something needs a session, the page's own origin, and the
session's token in a header: another page has neither.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.builtins.answers import answered
from gateway.builtins.portal.account import Account
from gateway.builtins.portal.sealing import MOST, Seal, Session
from gateway.config.tables.targets import PortalConfig
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.pages.assets import PAGES, POLICY, Asset, assets
from gateway.store.stores import StoreDown

log = logging.getLogger("gateway.auth")

PAGE = "portal"
MAX_BODY = 8 * 1024
TOKEN = "X-Portal-Token"  # noqa: S105 - the name of a header
COOKIE = "gateway-portal"

Identify = Callable[[Exchange], Awaitable[None] | None]
Written = Callable[[Exchange, str, Identity, str], None]
"""Writes to the audit log: an event, of whom, and what."""


class Portal:
    """The target of one route.

    schemes: those of Authorization that its `auth` takes, "ApiKey" and "Bearer". identify: the
    request hook of that `auth`.
    """

    def __init__(
        self,
        config: PortalConfig,
        identify: Identify,
        schemes: tuple[str, ...],
        seal: Seal,
        account: Account,
        written: Written,
        wall: Callable[[], float],
    ) -> None:
        self._config = config
        self._identify = identify
        self._schemes = schemes
        self._seal = seal
        self._account = account
        self._written = written
        self._wall = wall

    async def answer(self, exchange: Exchange) -> Reply:
        """Raises Failed."""
        base = _base(exchange)
        match exchange.path[len(base) :].strip("/").split("/"):
            case [""]:
                _need(exchange, "GET", "HEAD")
                return _page(base)
            case ["pages", name] if name in assets(PAGE):
                _need(exchange, "GET", "HEAD")
                return _file(exchange, assets(PAGE)[name])
            case ["api", "session"]:
                return await self._session(exchange, base)
            case ["api", "account"]:
                _need(exchange, "GET")
                identity, asking, _ = await self._known(exchange)
                return answered(await self._account.shown(identity, asking, self._wall()))
            case ["api", "keys", id, "rotate" | "revoke" as action]:
                _need(exchange, "POST")
                return await self._change_key(exchange, id, action)
        raise Failed(Failure.NO_ROUTE, "The portal has no such page.")

    # Sessions.

    async def _session(self, exchange: Exchange, base: str) -> Reply:
        _need(exchange, "GET", "POST", "DELETE")
        if exchange.method == "POST":
            return await self._log_in(exchange, base)
        try:
            identity, _, session = await self._known(exchange)
        except Failed as failed:
            if failed.failure.status not in (401, 403):
                raise
            return answered({"known": False, "title": self._config.title})
        if exchange.method == "GET":
            return answered(self._said(identity, session))
        _from_own_page(exchange, session)
        reply = answered({"known": False, "title": self._config.title})
        return _with_cookie(reply, exchange, base, "", 0)

    async def _log_in(self, exchange: Exchange, base: str) -> Reply:
        _from_own_page(exchange, None)
        secret = _text(await _body(exchange), "secret")
        identity, credential = await self._judged(exchange, secret)
        now = self._wall()
        session = Session(credential, now + self._config.session, secrets.token_urlsafe(16))
        value = await self._asked(self._seal.seal(session))
        if len(value) > MOST:
            raise _invalid("secret", "is too long for a session")
        self._written(exchange, "portal_login", identity, "")
        reply = answered(self._said(identity, session))
        return _with_cookie(reply, exchange, base, value, int(self._config.session))

    async def _judged(self, exchange: Exchange, secret: str) -> tuple[Identity, str]:
        """Return who brings a secret, as a key or as a token. Raises Failed."""
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Failed(Failure.UNAUTHENTICATED, "This is neither a key nor a token.")
        is_jwt = secret.startswith("ey") and secret.count(".") == 2
        schemes = ("Bearer", "ApiKey") if is_jwt else ("ApiKey", "Bearer")
        refused = Failed(Failure.UNAUTHENTICATED, "This is neither a key nor a token.")
        for number, scheme in enumerate(one for one in schemes if one in self._schemes):
            try:
                identity, _ = await self._identified(exchange, f"{scheme} {secret}", counts=True)
                return identity, f"{scheme} {secret}"
            except Failed as failed:
                if failed.failure.status != 401:
                    raise
                refused = refused if number else failed
        # Without its challenges: browsers ask for a password of their own at some of them.
        raise Failed(refused.failure, refused.detail, why=refused.why, by="portal")

    async def _identified(
        self, exchange: Exchange, credential: str, *, counts: bool
    ) -> tuple[Identity, Exchange]:
        """Ask `auth` about a credential; return the caller, and an exchange as of its own.

        counts: whether this is in metrics and the audit log. Raises Failed.
        """
        headers = CIMultiDictProxy(CIMultiDict({"Authorization": credential}))
        asking = Exchange(
            "GET", exchange.path, headers, (), request_id=exchange.request_id,
            peer=exchange.peer, scheme=exchange.scheme, host=exchange.host,
        )  # fmt: skip
        asking.client_ip, asking.trusted = exchange.client_ip, exchange.trusted
        asking.route, asking.tls_subject = exchange.route, exchange.tls_subject
        asking.decisions = None if counts else []
        waits = self._identify(asking)
        if waits is not None:
            await waits
        if asking.identity is None:
            raise Failed(Failure.UNAUTHENTICATED, "This is neither a key nor a token.")
        asking.decisions = None
        return asking.identity, asking

    async def _known(self, exchange: Exchange) -> tuple[Identity, Exchange, Session]:
        """Return whose session the request's is. Raises Failed."""
        value = _cookie(exchange)
        session = await self._asked(self._seal.unseal(value, self._wall())) if value else None
        if session is None:
            raise Failed(Failure.UNAUTHENTICATED, "Log in first.", by="portal")
        try:
            identity, asking = await self._identified(exchange, session.credential, counts=False)
        except Failed as failed:
            if failed.failure.status != 401:
                raise
            detail = failed.detail or "Log in again."
            raise Failed(failed.failure, detail, why=failed.why, by="portal") from None
        return identity, asking, session

    async def _asked(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except StoreDown as down:
            detail, headers = "Sessions cannot be checked at the moment.", ((b"Retry-After", b"1"),)
            raise Failed(
                Failure.NO_ENDPOINT, detail, headers=headers, why=f"portal: {down}", by="portal"
            ) from None

    def _said(self, identity: Identity, session: Session) -> dict[str, Any]:
        return {
            "known": True,
            "title": self._config.title,
            "client": identity.client,
            "until": session.until,
            "token": session.token,
        }

    # Keys.

    async def _change_key(self, exchange: Exchange, id: str, action: str) -> Reply:
        identity, _, session = await self._known(exchange)
        _from_own_page(exchange, session)
        keys = self._account.keys
        if keys is None:
            raise Failed(Failure.NO_ROUTE, "There are no keys here.")
        now = self._wall()
        if action == "revoke":
            key = await keys.revoke(identity, id, now)
            self._log(exchange, "portal_revoke", identity, f"key {key.id}")
            return answered({"id": key.id, "state": "revoked"})
        overlap = (await _body(exchange)).get("overlap", keys.overlap)
        if isinstance(overlap, bool) or not isinstance(overlap, int | float) or overlap < 0:
            raise _invalid("overlap", "must be a number of seconds")
        new, secret, old = await keys.rotate(identity, id, overlap, now)
        self._log(exchange, "portal_rotate", identity, f"key {old.id}: {new.id} replaces it")
        return answered({"id": new.id, "secret": secret, "replaces": old.id, "until": old.expires})

    def _log(self, exchange: Exchange, event: str, identity: Identity, what: str) -> None:
        self._written(exchange, event, identity, what)
        log.info("%s of client %s: %s", event, identity.client, what)


def _base(exchange: Exchange) -> str:
    """Return the prefix of the route that the path begins with, without a slash at its end."""
    path = exchange.path.lower() + "/"
    for prefix in (one.rstrip("/") for one in exchange.route.config.prefixed):
        if path.startswith(prefix.lower() + "/"):
            return exchange.path[: len(prefix)]
    return ""


def _page(base: str) -> Reply:
    asset = assets(PAGE)[PAGES[PAGE][0]]
    body = asset.body.replace(b"{base}", f"{escape(base)}/".encode())
    return Reply(200, _fields(asset), body)


def _file(exchange: Exchange, asset: Asset) -> Reply:
    if exchange.headers.get("If-None-Match") == asset.tag:
        return Reply(304, _fields(asset), b"")
    return Reply(200, _fields(asset), asset.body)


def _fields(asset: Asset) -> tuple[Pair, ...]:
    tag = ((b"ETag", asset.tag.encode()),) if "html" not in asset.media_type else ()
    return (
        (b"Content-Type", asset.media_type.encode()),
        (b"Cache-Control", b"no-cache"),
        (b"Content-Security-Policy", POLICY.encode()),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        *tag,
    )


def _need(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        allow = ", ".join(methods).encode()
        raise Failed(Failure.METHOD_NOT_ALLOWED, headers=((b"Allow", allow),))


def _from_own_page(exchange: Exchange, session: Session | None) -> None:
    """Refuse what another page may have had the browser send. Raises Failed.

    Browsers send Origin with every POST and DELETE (Fetch section 3.2). The scheme is left out: TLS
    may end in front. With a session its token has to come too, which only its page knows.
    """
    origin = exchange.headers.get("Origin", "")
    if not origin or origin.partition("://")[2] != exchange.headers.get("Host", ""):
        raise Failed(
            Failure.FORBIDDEN, "This is done from the portal's own page.", why=f"Origin {origin!r}"
        )
    if session is None:
        return
    given = exchange.headers.get(TOKEN, "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, session.token.encode()):
        raise Failed(Failure.FORBIDDEN, f"This needs the session's token in {TOKEN}.", by="portal")


def _cookie_name(exchange: Exchange) -> str:
    return f"__Secure-{COOKIE}" if exchange.scheme == "https" else COOKIE


def _cookie(exchange: Exchange) -> str:
    name = _cookie_name(exchange)
    for field in exchange.headers.getall("Cookie", []):
        for pair in field.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
    return ""


def _with_cookie(reply: Reply, exchange: Exchange, base: str, value: str, seconds: int) -> Reply:
    secure = "; Secure" if exchange.scheme == "https" else ""
    text = (
        f"{_cookie_name(exchange)}={value}; Path={base or '/'}; Max-Age={seconds}; HttpOnly; "
        f"SameSite=Strict{secure}"
    )
    return Reply(reply.status, (*reply.headers, (b"Set-Cookie", text.encode())), reply.body)


async def _body(exchange: Exchange) -> dict[str, Any]:
    """Return the JSON object of a request's body. Raises Failed."""
    data = await exchange.body.whole(MAX_BODY) if exchange.body is not None else b""
    try:
        found = orjson.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(Failure.MALFORMED, "The body must be one JSON object.")
    return found


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, "must be text")
    return value.strip()


def _invalid(name: str, rule: str) -> Failed:
    error = {"field": name, "code": "invalid", "message": f"{name} {rule}"}
    return Failed(Failure.INVALID_FIELD, f"{name} {rule}.", errors=[error])
