"""A shared limit in a gateway as it is run: a process of its own, on uvloop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.process import Process
from tests.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

TABLE = (
    'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nlimit = 20\nwindow = '
    '"1h"\nalgorithm = "fixed_window"\nmode = "{}"\n'
)
ROUTE = '[[route]]\nprefix = "/"\nupstream = "origin"\n'


async def test_two_processes_share_a_limit(
    tmp_path: Path, origin: Origin, shared_redis: RedisServer
):
    store = f'[store]\nurl = "{shared_redis.url}"\ndeadline = "250ms"\n'
    for name, mode in (("one", "exact"), ("two", "exact"), ("three", "leased")):
        (tmp_path / name).mkdir()
        write(
            tmp_path / name,
            TABLE.format(mode) + ROUTE,
            f'[upstream.origin]\nurl = "{origin.url}"\n',
            store,
        )
    configs = [tmp_path / name / "gateway.toml" for name in ("one", "two", "three")]
    async with Process(configs[0]) as one, Process(configs[1]) as two, Process(configs[2]) as three:
        found: Counter[int] = Counter()
        for gateway in (one, two):
            client = await Client.connect(gateway.port)
            found += Counter([(await client.get("/")).status for _ in range(15)])
            client.close()
        assert found == {200: 20, 429: 10}
        assert await one.metric("gateway_store_up") == 1
        # The third counts in the same bucket, and learns from the store that it is empty.
        client = await Client.connect(three.port)
        leased = Counter([(await client.get("/")).status for _ in range(10)])
        client.close()
        assert leased[200] <= 1 and leased[429] >= 9
