"""What plugins may do to bodies, and what they open and close, in a gateway on real sockets."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context, Hooks
from tests.origin import answer, fields_of
from tests.until import until

OWN = f"{__name__}:build"
RAN: list[str] = []
LARGE = b"0123456789" * 50_000


def pipeline(does: str) -> str:
    return f"""
request = ["{OWN}"]
response = ["{OWN}"]
["{OWN}"]
does = "{does}"
[[route]]
prefix = "/"
upstream = "origin"
"""


def upstream(origin) -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n'


class Doubled:
    """Every chunk of another stream, twice."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def read(self) -> bytes:
        return await self.inner.read() * 2

    def abort(self) -> None:
        self.inner.abort()


def doubled(exchange: Exchange, reply: Reply) -> None:
    reply.body = Doubled(reply.body)


def doubled_with_length(exchange: Exchange, reply: Reply) -> None:
    doubled(exchange, reply)
    reply.length = None


def transformed(exchange: Exchange, reply: Reply) -> None:
    reply.transform(lambda chunk: chunk.replace(b"5", b"five"), lambda: b"!")


async def replaced(exchange: Exchange) -> None:
    assert exchange.body is not None
    body = await exchange.body.whole(100)
    exchange.replace_body(body.upper() * 2, b"text/plain")


def build(config: dict[str, Any], context: Context) -> Hooks:
    does = config["does"]
    refused = context.failure("OWN_001", 418, "Not here")

    def refuse(exchange: Exchange) -> None:
        raise Failed(refused, "Elsewhere.")

    async def start() -> None:
        RAN.append(f"start {does}")
        if does == "broken":
            raise ConnectionError("no service")

    async def close() -> None:
        RAN.append(f"close {does}")

    hooks: dict[str, Hooks] = {
        "doubled": Hooks(response=doubled),
        "doubled with length": Hooks(response=doubled_with_length),
        "transformed": Hooks(response=transformed),
        "replaced": Hooks(request=replaced),
        "refuse": Hooks(request=refuse),
    }
    return hooks.get(does, Hooks(start=start, close=close))


async def test_a_stream_of_another_length_breaks_off(start, connect, origin_of, caplog):
    origin = await origin_of(answer(LARGE))
    client = await connect(await start(pipeline("doubled"), upstream(origin)))
    got = await client.get("/")
    assert not got.whole and len(got.body) < len(LARGE)
    assert "the body has more than the 500000 bytes it states" in caplog.text


async def test_one_that_says_so_arrives(start, connect, origin_of):
    origin = await origin_of(answer(LARGE))
    client = await connect(await start(pipeline("doubled with length"), upstream(origin)))
    got = await client.get("/")
    assert got.whole and len(got.body) == 2 * len(LARGE)
    assert got.fields["transfer-encoding"] == "chunked"


@pytest.mark.modes
@pytest.mark.parametrize("body", [b"345", LARGE])
async def test_a_transformed_body(start, connect, origin_of, body: bytes):
    origin = await origin_of(answer(body, ETag='"1"'))
    client = await connect(await start(pipeline("transformed"), upstream(origin)))
    got = await client.get("/")
    assert got.whole and got.body == body.replace(b"5", b"five") + b"!"
    assert got.fields["etag"] == 'W/"1"'


async def test_a_replaced_body(start, connect, origin):
    client = await connect(await start(pipeline("replaced"), upstream(origin)))
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Digest: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    assert (await client.read()).status == 200
    fields = fields_of(origin.heads[0])
    assert origin.bodies == [b"ABCABC"] and fields["content-length"] == "6"
    assert fields["content-type"] == "text/plain" and "content-digest" not in fields


async def test_a_failure_of_its_own(start, connect, origin):
    gateway = await start(pipeline("refuse"), upstream(origin))
    got = await (await connect(gateway)).get("/")
    assert (got.status, got.fields["x-error-code"]) == (418, "OWN_001")
    assert b'"detail":"Elsewhere."' in got.body


async def test_starts_come_before_the_swap_and_closes_after_it(start, connect, origin, tmp_path):
    RAN.clear()
    gateway = await start(pipeline("first"), upstream(origin))
    assert RAN == ["start first"]
    file = tmp_path / "pipelines" / "test.toml"
    file.write_text(pipeline("broken"))
    refused = await gateway.reload()
    assert [problem.message for problem in refused.problems] == [
        f"{OWN}: start failed: ConnectionError: no service"
    ]
    assert RAN == ["start first", "start broken"], "one that has not started is not closed"
    assert (await (await connect(gateway)).get("/")).status == 200
    file.write_text(pipeline("second"))
    assert (await gateway.reload()).ok
    await until(lambda: RAN[2:] == ["start second", "close first"])
    await gateway.close()
    assert RAN[4:] == ["close second"]


async def test_without_its_start_the_gateway_does_not_begin(start, origin):
    RAN.clear()
    with pytest.raises(ConfigErrors, match="no service"):
        await start(pipeline("broken"), upstream(origin))
    assert RAN == ["start broken"]


async def test_a_start_that_is_broken_off_is_no_error(start, origin, tmp_path):
    """A stop while a reload waits for a start."""
    gateway = await start(pipeline("first"), upstream(origin))
    began = asyncio.Event()

    async def never(lives: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.runtime.reload.start_all", never)
        reload = asyncio.create_task(gateway.reload())
        await began.wait()
        await gateway.close()
        with pytest.raises(asyncio.CancelledError):
            await reload


SOURCE = """
from gateway.core.hooks import Hooks


def build(config, context):
    return Hooks(response=lambda exchange, reply: reply.set(b"X-Word", b"WORD"))
"""


async def test_a_reload_loads_modules_that_have_changed(
    start, connect, origin, tmp_path, monkeypatch
):
    name = f"acme_{os.getpid()}_{tmp_path.name}"
    module = tmp_path / f"{name}.py"
    module.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    route = '[[route]]\nprefix = "/"\nupstream = "origin"\n'
    gateway = await start(f'response = ["{name}:build"]\n{route}', upstream(origin))
    client = await connect(gateway)
    assert (await client.get("/")).fields["x-word"] == "WORD"
    module.write_text(SOURCE.replace("WORD", "ELSE"))
    outcome = await gateway.reload()
    assert outcome.ok and outcome.changes == (f"module {name} loaded anew",)
    assert (await client.get("/")).fields["x-word"] == "ELSE"
    module.write_text("this is no Python")
    refused = await gateway.reload()
    assert not refused.ok and name in str(refused.problems[0])
    assert (await client.get("/")).fields["x-word"] == "ELSE"
    module.write_text(SOURCE.replace("WORD", "LAST"))
    assert (await gateway.reload()).ok
    assert (await client.get("/")).fields["x-word"] == "LAST"
