"""Sessions in Redis, shared by several gateways: the decisions of sessions.py in one script.

    gateway:{tokens}:session:ID   a hash: the session; expires when it is not refreshed in time
    gateway:{tokens}:of:HASH      a sorted set: ids of a user's sessions by when they began
    gateway:{tokens}:all          a sorted set: ids by when they were refreshed
    gateway:{tokens}:ended        a sorted set: ids of ended sessions by when their access tokens
                                  have expired
    gateway:{tokens}:step:HASH    the last step of a user's second factor that was used
    gateway:{tokens}:version      how many have ended
    gateway:{tokens}:changes      the channel: which session ended (feed.py)

While the store is away there are no logins and refreshes. Access tokens are good unless their
session is known to have ended; before the ended ones have been read once, none is good. A refresh
whose answer comes too late has happened all the same: until "delivered" says that the client was
given the next token, the one before it gets the same token again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.wait import Wait
from gateway.issuer.sessions import (
    ENDED,
    RefreshResult,
    Session,
    SessionLimits,
    digest,
    looks_like,
    new_salt,
    new_token,
    next_token,
    session_of,
)
from gateway.store.redis.client import RedisClient
from gateway.store.redis.feed import Feed
from gateway.store.stores import StoreDown

NAME = b"gateway:{tokens}"
VERSION = NAME + b":version"
MARGIN = 3600
"""Seconds for which an end is remembered after the access tokens expire, for lenient verifiers."""
PAGE = 10_000
UNANSWERED = 1_000
"""Users remembered whose second factor was used in a login that came to nothing."""

SCRIPT = b"""
local name, channel, action, now = 'gateway:{tokens}:', ARGV[1], ARGV[2], tonumber(ARGV[3])
local all = name .. 'all'
local fields = {
  'user', 'created', 'seen', 'checked', 'amr', 'digest', 'access', 'of', 'before', 'salt',
}

local function read(id)
  local found = redis.call('HMGET', name .. 'session:' .. id, unpack(fields))
  if not found[1] then return nil end
  found[9], found[10] = found[9] or '', found[10] or ''
  return found
end

local function finish(id, session)
  redis.call('DEL', name .. 'session:' .. id)
  redis.call('ZREM', all, id)
  if session then
    local till = string.format('%.0f', tonumber(session[7]) + 3600)
    redis.call('ZREM', session[8], id)
    redis.call('ZREMRANGEBYSCORE', name .. 'ended', '-inf', string.format('%.17g', now))
    redis.call('ZADD', name .. 'ended', till, id)
    local version = redis.call('INCR', name .. 'version')
    redis.call('PUBLISH', channel, version .. ' ' .. id .. ' ' .. till)
  end
end

local function keep(id, created, seen, idle, lifetime)
  local left = math.min(seen + idle, created + lifetime) - now
  redis.call('PEXPIRE', name .. 'session:' .. id, math.max(1, math.ceil(left * 1000)))
  redis.call('ZADD', all, string.format('%.17g', seen), id)
end

local function alive(of)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', of, 0, -1)) do
    if redis.call('EXISTS', name .. 'session:' .. id) == 1 then
      found[#found + 1] = id
    else
      redis.call('ZREM', of, id)
    end
  end
  return found
end

if action == 'begin' then
  local id, user, of, amr, digest = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
  local idle, lifetime = tonumber(ARGV[9]), tonumber(ARGV[10])
  local each, most = tonumber(ARGV[11]), tonumber(ARGV[12])
  local mine = alive(of)
  for i = 1, #mine - each + 1 do finish(mine[i], read(mine[i])) end
  redis.call('ZREMRANGEBYSCORE', all, '-inf', string.format('%.17g', now - idle))
  local longest = redis.call('ZRANGE', all, 0, redis.call('ZCARD', all) - most)
  if redis.call('ZCARD', all) >= most then
    for _, other in ipairs(longest) do finish(other, read(other)) end
  end
  redis.call('HSET', name .. 'session:' .. id, 'user', user,
    'created', ARGV[3], 'seen', ARGV[3], 'checked', ARGV[3], 'amr', amr,
    'digest', digest, 'access', ARGV[13], 'of', of)
  redis.call('ZADD', of, ARGV[3], id)
  redis.call('PEXPIRE', of, math.ceil(lifetime * 1000))
  keep(id, now, now, idle, lifetime)
  return 1
elseif action == 'refresh' then
  local id, digest, following = ARGV[4], ARGV[5], ARGV[6]
  local idle, lifetime, renewal = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
  local access, salt = ARGV[10], ARGV[11]
  local session = read(id)
  if not session then return {'unknown'} end
  local result = 'ok'
  if session[9] == digest then
    result = 'again'
  elseif session[6] ~= digest then
    result = 'reused'
  end
  local ends = math.min(tonumber(session[3]) + idle, tonumber(session[2]) + lifetime)
  if result ~= 'reused' and now >= ends then
    result = 'expired'
  end
  if result == 'reused' or result == 'expired' then
    finish(id, session)
  elseif result == 'ok' then
    if tonumber(session[3]) + idle - now <= renewal then session[3] = ARGV[3] end
    session[6], session[9], session[10] = following, digest, salt
    redis.call('HSET', name .. 'session:' .. id, 'seen', session[3], 'digest', following,
      'access', access, 'before', digest, 'salt', salt)
    keep(id, tonumber(session[2]), tonumber(session[3]), idle, lifetime)
  end
  return {result, unpack(session)}
elseif action == 'delivered' then
  local session = read(ARGV[4])
  if session and session[6] == ARGV[5] then
    redis.call('HSET', name .. 'session:' .. ARGV[4], 'before', '', 'salt', '')
  end
  return 1
elseif action == 'end' then
  local session = read(ARGV[4])
  if session then finish(ARGV[4], session) end
  return session or {}
elseif action == 'others' then
  local count = 0
  for _, id in ipairs(alive(ARGV[4])) do
    if id == ARGV[5] then
      redis.call('HSET', name .. 'session:' .. id, 'checked', ARGV[3])
    else
      finish(id, read(id))
      count = count + 1
    end
  end
  return count
elseif action == 'before' then
  local count = 0
  for _, id in ipairs(alive(ARGV[4])) do
    local session = read(id)
    if tonumber(session[4]) < tonumber(ARGV[5]) then
      finish(id, session)
      count = count + 1
    end
  end
  return count
elseif action == 'count' then
  return #alive(ARGV[4])
elseif action == 'claim' then
  local key = name .. 'step:' .. ARGV[4]
  if tonumber(redis.call('GET', key) or '-1') >= tonumber(ARGV[5]) then return 0 end
  redis.call('SET', key, ARGV[5], 'EX', 600)
  return 1
end
"""


class SharedSessions:
    """See sessions.Sessions."""

    def __init__(self, store: RedisClient) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._store = store
        self._channel = store.url.channel(NAME.decode()).encode()
        self._ended: dict[str, float] = {}
        self._unanswered: dict[str, int] = {}
        self._read = False
        self._feed = Feed(store, NAME, self)

    def __repr__(self) -> str:
        return f"<SharedSessions {self._store.name}, {len(self._ended)} ended>"

    def close(self) -> None:
        self._feed.close()

    def why(self, claims: Mapping[str, Any]) -> str:
        if not self._read:
            raise StoreDown("which sessions have ended has not been read yet")
        id = claims.get("sid")
        return "" if isinstance(id, str) and id not in self._ended else ENDED

    async def begin(
        self, user: str, amr: tuple[str, ...], now: float, limits: SessionLimits
    ) -> tuple[Session, str]:
        token = new_token()
        session = Session(session_of(token), user, now, now, now, amr, digest(token))
        words = (session.id, user, _of(user), " ".join(amr), session.digest)
        figures = (
            limits.idle,
            limits.lifetime,
            limits.most_of_user,
            limits.most,
            now + limits.access,
        )
        await self._run("begin", now, *words, *figures)
        return session, token

    async def refresh(self, token: str, now: float, limits: SessionLimits) -> RefreshResult:
        if not looks_like(token):
            return RefreshResult("unknown")
        id, salt = session_of(token), new_salt()
        figures = (limits.idle, limits.lifetime, limits.renewal, now + limits.access)
        words = (id, digest(token), digest(next_token(token, salt)))
        result, *found = await self._run("refresh", now, *words, *figures, salt)
        word = result.decode()
        session = _session(id, found)
        if word in ("reused", "expired"):
            self._end(id, now + limits.access + MARGIN)
        if session is None or word not in ("ok", "again"):
            return RefreshResult(word, session)
        return RefreshResult("ok", session, next_token(token, session.salt))

    def delivered(self, session: Session) -> None:
        # If this fails, the client may still try again.
        self._run("delivered", 0.0, session.id, session.digest)

    async def find(self, id: str) -> Session | None:
        key = NAME + b":session:" + id.encode("utf-8", "replace")
        names = (b"user", b"created", b"seen", b"checked", b"amr", b"digest")
        return _session(id, await self._store.command(b"HMGET", key, *names))

    async def end(self, id: str) -> Session | None:
        now = self._store.clock.wall()
        session = _session(id, await self._run("end", now, id))
        if session is not None:
            self._end(id, now + 86400.0 + MARGIN)  # what is published says until when
        return session

    async def end_others(self, user: str, keep: str, now: float) -> int:
        return int(await self._run("others", now, _of(user), keep))

    async def end_before(self, user: str, moment: float) -> int:
        return int(await self._run("before", self._store.clock.wall(), _of(user), moment))

    async def count(self, user: str, now: float, limits: SessionLimits) -> int:
        return int(await self._run("count", now, _of(user)))

    async def claim(self, user: str, step: int) -> bool:
        try:
            unused = bool(await self._run("claim", 0.0, _hash(user), step))
        except StoreDown:
            # It may have been done all the same: the user, told to try again, must not have to wait
            # for the next code.
            if len(self._unanswered) >= UNANSWERED:
                self._unanswered.clear()
            self._unanswered[user] = step
            raise
        return self._unanswered.pop(user, None) == step or unused

    # The Feed's Follower.

    async def load(self) -> None:
        """Every session that has ended before its access tokens have."""
        key, now = NAME + b":ended", self._store.clock.wall()
        found: dict[str, float] = {}
        least = b"(%.17g" % now
        start = 0
        while True:
            page = await self._store.command(
                b"ZRANGEBYSCORE",
                key,
                least,
                b"+inf",
                b"WITHSCORES",
                b"LIMIT",
                b"%d" % start,
                b"%d" % PAGE,
            )
            found.update(
                (id.decode(), float(until)) for id, until in zip(page[::2], page[1::2], strict=True)
            )
            start += PAGE
            if len(page) < 2 * PAGE:
                break
        # A store that has lost its data knows of no ends: those heard of before still are ones.
        self._ended = {id: until for id, until in self._ended.items() if until > now} | found
        self._read = True
        self._tell()

    def take(self, change: bytes) -> None:
        id, _, until = change.decode().partition(" ")
        self._end(id, float(until))

    def unconfirmed(self) -> None:
        """Keep what is known."""

    def _end(self, id: str, until: float) -> None:
        known = id in self._ended
        self._ended[id] = until
        if not known:
            if len(self._ended) % 1000 == 0:
                now = self._store.clock.wall()
                self._ended = {one: when for one, when in self._ended.items() if when > now}
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()

    def _run(self, action: str, now: float, *words: str | float) -> Wait[Any]:
        return self._store.command(*_command(self._channel, action, now, *words), key=VERSION)


def end_before(client: Any, channel: str, user: str, moment: float, now: float) -> int:
    """End sessions as `end_before` does, with a blocking client, for the command line."""
    _, script, keys, *words = _command(channel.encode(), "before", now, _of(user), moment)
    return int(client.eval(script, int(keys), *words))


def _command(channel: bytes, action: str, now: float, *words: str | float) -> tuple[bytes, ...]:
    plain = (
        word.encode("utf-8", "replace") if isinstance(word, str) else b"%.17g" % min(word, 1e300)
        for word in words
    )
    return b"EVAL", SCRIPT, b"1", VERSION, channel, action.encode(), b"%.17g" % now, *plain


def _session(id: str, found: list[Any]) -> Session | None:
    """A session as the script answers it."""
    if not found or found[0] is None:
        return None
    user, created, seen, checked, amr, token = (one.decode() for one in found[:6])
    before, salt = (one.decode() for one in found[8:10]) if len(found) > 8 else ("", "")
    return Session(
        id,
        user,
        float(created),
        float(seen),
        float(checked),
        tuple(amr.split()),
        token,
        before,
        salt,
    )


def _hash(user: str) -> str:
    return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _of(user: str) -> str:
    return f"gateway:{{tokens}}:of:{_hash(user)}"
