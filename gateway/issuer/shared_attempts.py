"""Attempts to log in, counted in Redis for several gateways, by Redis' own clock.

    gateway:{tokens}:attempt:HASH   a hash: failures, when the next may begin, when it is forgotten
    gateway:{tokens}:known:HASH     there while an account knows an address

    gateway:{tokens}:begun:ID       there for a minute: an attempt has begun, or been withdrawn

The decisions are those of attempts.py. An answer that comes too late leaves open whether the
attempt has been counted: it is withdrawn by its ID, which undoes it whenever it is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any

from gateway.core.wait import Wait
from gateway.issuer.attempts import KNOWN_FOR, AttemptRule, account_key, client_key, pair_key
from gateway.store.redis.client import RedisClient

KEY = b"gateway:{tokens}:attempts"

SCRIPT = b"""
local name, action, now = 'gateway:{tokens}:', ARGV[1], tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local known = name .. 'known:' .. ARGV[5]
local begun = name .. 'begun:' .. ARGV[15]

local function rule(key, at)
  local found = redis.call('HMGET', name .. 'attempt:' .. key, 'failures', 'until', 'forgotten')
  local forgotten = tonumber(found[3] or '0')
  local fresh = now >= forgotten
  return {
    key = name .. 'attempt:' .. key,
    failures = fresh and 0 or tonumber(found[1]), till = fresh and 0 or tonumber(found[2]),
    forgotten = forgotten, free = tonumber(ARGV[at]), delay = tonumber(ARGV[at + 1]),
    longest = tonumber(ARGV[at + 2]), forget = tonumber(ARGV[at + 3]),
  }
end

local function wait(r, failures)
  if failures < r.free then return 0 end
  return math.min(r.longest, r.delay * 2 ^ math.min(failures - r.free, 60))
end

local function save(r)
  if r.failures == 0 then
    redis.call('DEL', r.key)
    return
  end
  redis.call('HSET', r.key, 'failures', r.failures, 'until', string.format('%.17g', r.till),
    'forgotten', string.format('%.17g', r.forgotten))
  redis.call('PEXPIRE', r.key, math.max(1, math.ceil((r.forgotten - now) * 1000)))
end

local function undo(r)
  r.failures = math.max(0, r.failures - 1)
  r.till = math.min(r.till, now + wait(r, r.failures))
  save(r)
end

local account = redis.call('EXISTS', known) == 1 and ARGV[5] or ARGV[4]
local rules = {rule(ARGV[3], 6), rule(account, 10)}
if action == 'begin' then
  if redis.call('EXISTS', begun) == 1 then return '0' end
  local longest = math.max(rules[1].till, rules[2].till) - now
  if longest > 0 then return string.format('%.17g', longest) end
  for _, r in ipairs(rules) do
    r.failures = r.failures + 1
    local seconds = wait(r, r.failures)
    r.till, r.forgotten = now + seconds, now + math.max(r.forget, 2 * seconds)
    save(r)
  end
  redis.call('SET', begun, '1', 'EX', 60)
  return '0'
elseif action == 'withdrawn' then
  if redis.call('GET', begun) == '1' then
    for _, r in ipairs(rules) do undo(r) end
  end
  redis.call('SET', begun, '0', 'EX', 60)
elseif action == 'undone' then
  for _, r in ipairs(rules) do undo(r) end
else
  undo(rules[1])
  redis.call('DEL', name .. 'attempt:' .. ARGV[4], name .. 'attempt:' .. ARGV[5])
  redis.call('SET', known, '1', 'EX', ARGV[14])
end
return '0'
"""


class SharedAttempts:
    """See attempts.Attempts. `clock` is for tests; otherwise Redis' clock counts."""

    def __init__(
        self,
        store: RedisClient,
        accounts: AttemptRule,
        addresses: AttemptRule,
        clock: Callable[[float], bytes] = lambda now: b"",
    ) -> None:
        self.accounts = accounts
        self.addresses = addresses
        self._store = store
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SharedAttempts {self._store.name}>"

    async def begin(self, address: str, account: str, now: float) -> float:
        attempt = token_hex(8).encode()
        try:
            return float(await self._run(b"begin", address, account, now, attempt))
        except BaseException:
            # Nobody hears its answer any more. On one connection this comes after it.
            self._run(b"withdrawn", address, account, now, attempt)
            raise

    async def succeeded(self, address: str, account: str, now: float) -> None:
        await self._run(b"succeeded", address, account, now)

    async def undone(self, address: str, account: str, now: float) -> None:
        await self._run(b"undone", address, account, now)

    def _run(
        self, action: bytes, address: str, account: str, now: float, attempt: bytes = b""
    ) -> Wait[Any]:
        keys = (client_key(address), account_key(account), pair_key(address, account))
        figures = [
            b"%.17g" % figure
            for rule in (self.addresses, self.accounts)
            for figure in (rule.free, rule.delay, rule.longest, rule.forget)
        ]
        words = (
            action,
            self._clock(now),
            *(key.hex().encode() for key in keys),
            *figures,
            b"%d" % KNOWN_FOR,
            attempt,
        )
        return self._store.command(b"EVAL", SCRIPT, b"1", KEY, *words, key=KEY)
