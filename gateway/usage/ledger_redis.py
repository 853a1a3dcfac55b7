"""Usage in Redis, for all gateways that use it.

    gateway:{usage:CLIENT}:hours:DAY     a hash: figures by "ROUTE METHOD HOUR"; kept for three days
    gateway:{usage:CLIENT}:days:MONTH    a hash: figures by "ROUTE METHOD DAY"; kept for retention

A batch is one client's counts of one day. It is sent again until Redis has answered; a mark of the
process in the hash, with the batch's number, lets Redis add each only once.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from gateway.store.redis.client import RedisClient
from gateway.store.redis.connection import Script
from gateway.store.stores import StoreDown
from gateway.usage.counters import DAY, HOUR, Cell, Cells, Place

HOURS_KEPT = 3 * DAY
"""Seconds for which hours are told apart."""
DEADLINE = 2.0
"""Seconds that an answer may take at least: nothing waits for it."""
AT_ONCE = 100
"""Batches that are under way at the same time."""
MONTH_SECONDS = 31 * DAY

ADD = Script(
    b"""
local function add(key, field, more)
  local old, sums = redis.call("HGET", key, field), {}
  for figure in string.gmatch(more, "%d+") do sums[#sums + 1] = tonumber(figure) end
  local index = 0
  for figure in string.gmatch(old or "", "%d+") do
    index = index + 1
    sums[index] = sums[index] + tonumber(figure)
  end
  for place, sum in ipairs(sums) do sums[place] = string.format("%.0f", sum) end
  redis.call("HSET", key, field, table.concat(sums, " "))
end
local mark = "~" .. ARGV[1]
if tonumber(redis.call("HGET", KEYS[1], mark) or "0") >= tonumber(ARGV[2]) then return 0 end
redis.call("HSET", KEYS[1], mark, ARGV[2])
for place = 5, #ARGV, 3 do
  add(KEYS[1], ARGV[place], ARGV[place + 2])
  add(KEYS[2], ARGV[place + 1], ARGV[place + 2])
end
redis.call("EXPIRE", KEYS[1], ARGV[3])
redis.call("EXPIRE", KEYS[2], ARGV[4])
return 1"""
)


class Batch(NamedTuple):
    """Counts of one client on one day, and the number by which Redis knows them."""

    client: str
    day: int
    number: int
    cells: dict[Place, Cell]


class InStore:
    """Counts by client, route, method and hour. Connects when it is first asked."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._process = f"{os.getpid()}-{random.getrandbits(48):x}".encode()
        self._number = 0
        self._unsent: list[Batch] = []

    async def add(self, cells: Cells, retention: float) -> bool:
        """Add counts; True if Redis has all of them. What it has not is sent with the next ones.

        While something is left from before nothing new is taken: False, and the caller keeps it.
        """
        if self._unsent:
            self._unsent = await self._send(self._unsent, retention)
            if self._unsent:
                return False
        self._unsent = await self._send(list(self._batches(cells)), retention)
        return True

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        """Return a client's cells of the last hours, and those of days from `since` on. Raises
        StoreDown."""
        hours: dict[Place, Cell] = {}
        days: dict[Place, Cell] = {}
        today = int(now) // DAY
        for day in range(today - HOURS_KEPT // DAY + 1, today + 1):
            await self._collect(_key(client, "hours", day * DAY), client, 1, hours)
        for month in sorted({_month(day * DAY) for day in range(int(since) // DAY, today + 1)}):
            await self._collect(_name(client, "days", month), client, 24, days)
        oldest = int(since) // DAY * 24
        return hours, {place: cell for place, cell in days.items() if place.hour >= oldest}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _batches(self, cells: Cells) -> Iterator[Batch]:
        found: dict[tuple[str, int], dict[Place, Cell]] = {}
        for place, cell in cells.items():
            found.setdefault((place[0], place[3] * HOUR // DAY), {})[Place(*place)] = cell
        for (client, day), mine in found.items():
            self._number += 1
            yield Batch(client, day, self._number, mine)

    async def _send(self, batches: list[Batch], retention: float) -> list[Batch]:
        """Send batches; return those that Redis has not confirmed."""
        left = []
        for start in range(0, len(batches), AT_ONCE):
            some = batches[start : start + AT_ONCE]
            commands = [self._client.run(ADD, *self._words(one, retention)) for one in some]
            for batch, command in zip(some, commands, strict=True):
                try:
                    await command
                except StoreDown:
                    left.append(batch)
        return left

    def _words(self, batch: Batch, retention: float) -> tuple[list[bytes], list[bytes]]:
        at = batch.day * DAY
        keys = [_key(batch.client, "hours", at), _name(batch.client, "days", _month(at))]
        words = [
            self._process,
            b"%d" % batch.number,
            b"%d" % (HOURS_KEPT + DAY),
            b"%d" % (int(retention) + MONTH_SECONDS),
        ]
        for place, cell in batch.cells.items():
            name = f"{place.route} {place.method}"
            figures = " ".join(map(str, cell)).encode()
            words += [f"{name} {place.hour}".encode(), f"{name} {batch.day}".encode(), figures]
        return keys, words

    async def _collect(self, key: bytes, client: str, hours: int, into: dict[Place, Cell]) -> None:
        """Add a hash's figures; its fields end in a number of periods of so many `hours`."""
        async for page in self._client.scan(key):
            for field, value in zip(page[::2], page[1::2], strict=True):
                if field.startswith(b"~"):
                    continue
                name, method, period = field.decode("utf-8", "replace").rsplit(" ", 2)
                # A scan may tell a field twice, so this one takes the place of an earlier one.
                into[Place(client, name, method, int(period) * hours)] = [
                    int(figure) for figure in value.split()
                ]


def _month(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y%m")


def _key(client: str, kind: str, unix: float) -> bytes:
    return _name(client, kind, datetime.fromtimestamp(unix, UTC).strftime("%Y%m%d"))


def _name(client: str, kind: str, period: str) -> bytes:
    safe = quote(client.encode("utf-8", "surrogateescape"), safe="")
    return f"gateway:{{usage:{safe}}}:{kind}:{period}".encode()
