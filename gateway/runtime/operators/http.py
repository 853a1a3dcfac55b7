"""What `Context.http` is: one client for all operators' middlewares of a process."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from gateway.config.tables.health import BreakerConfig
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Answer
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.breaker import Breaker

TIMEOUT = 1.0
"""Seconds for a question, unless it says another number."""
AT_MOST = 1 << 20
CONNECTIONS = 100
"""Open at a time, to all services; further questions wait for one within their time."""
SERVICES_MAX = 256
"""Services whose breakers are remembered, the last used ones."""
BREAKER = BreakerConfig(failure_threshold=5, recovery_timeout=5.0, half_open_requests=1)


class HttpClients:
    """The connections and breakers that all middlewares share."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._now = clock.monotonic
        self._session: aiohttp.ClientSession | None = None
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()

    def __repr__(self) -> str:
        return f"<HttpClients, {len(self._breakers)} services>"

    def of(self, name: str) -> Client:
        """Return the client of the middleware called `name`."""
        return Client(self, name, self._telemetry)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def session(self) -> aiohttp.ClientSession:
        """Return the session, which is made when it is first used: there may be no loop before."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=True,
            )
        return self._session

    def allow(self, service: str) -> Breaker:
        """Return a service's breaker, which lets a question through. Raises Failed."""
        breaker = self._breakers.get(service)
        if breaker is None:
            breaker = self._breakers[service] = Breaker(BREAKER)
            if len(self._breakers) > SERVICES_MAX:
                self._breakers.popitem(last=False)
        self._breakers.move_to_end(service)
        now = self._now()
        if not breaker.allow(now):
            after = b"%d" % max(1, round(breaker.retry_after(now)))
            why = f"{service} has failed too often lately"
            raise Failed(Failure.CIRCUIT_OPEN, headers=((b"Retry-After", after),), why=why)
        return breaker

    def settle(self, breaker: Breaker, failed: bool) -> None:
        """Tell a breaker how a question ended."""
        if failed:
            breaker.failure(self._now())
        else:
            breaker.success(self._now())


class Client:
    """A HttpClient; its questions are counted by the middleware's name."""

    def __init__(self, shared: HttpClients, name: str, telemetry: Telemetry) -> None:
        self._shared = shared
        self._name = name
        self._requests = telemetry.plugin_requests
        self._duration = telemetry.plugin_duration

    def __repr__(self) -> str:
        return f"<Client of {self._name}>"

    async def get(self, url: str, **more: Any) -> Answer:
        return await self.request("GET", url, **more)

    async def post(self, url: str, **more: Any) -> Answer:
        return await self.request("POST", url, **more)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        timeout: float = TIMEOUT,
        at_most: int = AT_MOST,
        exchange: Exchange | None = None,
    ) -> Answer:
        fields = dict(headers or {})
        if json is not None:
            body = orjson.dumps(json)
            fields.setdefault("Content-Type", "application/json")
        if exchange is not None:
            fields.setdefault("X-Request-ID", exchange.request_id)
            if exchange.traceparent:
                fields.setdefault("traceparent", exchange.traceparent)
        parts = urlsplit(url)
        service = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        began, code = perf_counter(), "cancelled"
        try:
            answer = await self._ask(service, method, url, fields, body, timeout, at_most)
            code = str(answer.status)
            return answer
        except Failed as failed:
            code = failed.failure.reason
            failed.by = self._name
            raise
        finally:
            self._count(code, perf_counter() - began)

    async def _ask(
        self,
        service: str,
        method: str,
        url: str,
        fields: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        at_most: int,
    ) -> Answer:
        breaker = self._shared.allow(service)
        kind, why = Failure.CONNECTION_RESET, ""
        try:
            async with (
                asyncio.timeout(timeout),
                self._shared.session().request(
                    method, url, headers=fields, data=body, allow_redirects=False
                ) as response,
            ):
                answer = Answer(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    await _whole(response, at_most),
                )
            self._shared.settle(breaker, answer.status >= 500)
            return answer
        except TimeoutError:
            kind, why = Failure.TIMEOUT, f"no answer within {timeout:g} s"
        except _TooLong:
            kind, why = Failure.BAD_RESPONSE, f"more than {at_most} bytes"
        except aiohttp.ClientConnectorError as error:
            kind, why = Failure.CONNECT_FAILED, str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        except BaseException:
            breaker.abandon()
            raise
        self._shared.settle(breaker, True)
        raise Failed(kind, why=f"{service}: {why}")

    def _count(self, code: str, seconds: float) -> None:
        self._requests.add((self._name, code))
        cell = self._duration.cell((self._name,))
        cell.counts[bisect_left(cell.bounds, seconds)] += 1
        cell.total += seconds


class _TooLong(Exception):
    """An answer has more bytes than are taken."""


async def _whole(response: aiohttp.ClientResponse, at_most: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > at_most:
            raise _TooLong
    return bytes(data)
