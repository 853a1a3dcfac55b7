"""A waiting connection to Redis for the command line, and changes that are made and published in
one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from gateway.store.stores import StoreUrl

TIMEOUT = 5.0
"""Seconds for a connection and for an answer."""

CHANGE = """
local fields, ids = KEYS[1], KEYS[2]
for i = 3, #ARGV, 4 do
  local was = redis.call('HGET', fields, ARGV[i + 1]) or ''
  if was ~= ARGV[i + 2] then return {-1, was} end
  if was == '' and ids ~= fields and redis.call('HEXISTS', ids, ARGV[i]) == 1 then
    return {-2, ''}
  end
end
for i = 3, #ARGV, 4 do
  if ARGV[i + 3] == '' then redis.call('HDEL', fields, ARGV[i + 1])
  else redis.call('HSET', fields, ARGV[i + 1], ARGV[i + 3]) end
  if ids ~= fields then redis.call('HSET', ids, ARGV[i], ARGV[i + 1]) end
end
local version = redis.call('INCR', KEYS[3])
redis.call('PUBLISH', ARGV[1], version .. ' ' .. ARGV[2])
return {version, ''}
"""
"""Changes fields of a hash that still are what was read, counts the version up and publishes it.

KEYS: the hash, another with its fields by ID (or the same again for none), the version. ARGV: the
channel, the message, then for each field its ID, the field, its value ("" for none) and its new
value ("" to delete it). Answers the version; -1 and what was found instead; or -2 when an ID is
taken.
"""


class ClientError(Exception):
    """The store cannot be reached, or refuses. The message says which and why, without secrets."""


@contextmanager
def connected(url: StoreUrl) -> Iterator[Any]:
    """A client of the store. Raises ClientError for every failure of Redis within."""
    client: Any = None
    secrets: dict[str, Any] = {"username": url.user or None, "password": url.password or None}
    times: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    try:
        host, port = url.hosts[0]
        if url.scheme == "redis+cluster":
            nodes = [ClusterNode(*one) for one in url.hosts]  # type: ignore[no-untyped-call]
            client = RedisCluster(startup_nodes=nodes, **secrets, **times)
        elif url.scheme == "redis+sentinel":
            sentinels: Any = Sentinel(list(url.hosts), sentinel_kwargs=times)  # type: ignore[no-untyped-call]
            client = sentinels.master_for(url.service, db=url.database, **secrets, **times, **once)
        else:
            client = Redis(
                host=host,
                port=port,
                db=url.database,
                ssl=url.scheme == "rediss",
                **secrets,
                **times,
                **once,
            )
        yield client
    except (OSError, RedisError, RedisClusterException) as error:  # The last is none of the second.
        raise ClientError(f"{url} cannot be used: {error}") from None
    finally:
        if client is not None:
            client.close()


def change(
    client: Any,
    keys: Sequence[str],
    channel: str,
    message: str,
    fields: Sequence[tuple[str, str, str, str]],
) -> tuple[int, str]:
    """Run CHANGE; `fields` are (ID, field, value, new value)."""
    flat = [word for field in fields for word in field]
    version, found = client.eval(CHANGE, len(keys), *keys, channel, message, *flat)
    return int(version), found.decode()
