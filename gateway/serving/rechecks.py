"""Open WebSockets are judged again, by the configuration in force: their credentials may end."""

from __future__ import annotations

import asyncio
import logging

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.wait import driven
from gateway.protocols.websocket import POLICY_VIOLATION
from gateway.runtime.pipeline import Pipeline
from gateway.serving.server import Server
from gateway.serving.tunnel import Tunnel

log = logging.getLogger("gateway.serving")


class Rechecks:
    """Has one tunnel judged until it is closed. Each has its timer: all at once would be long."""

    def __init__(
        self, exchange: Exchange, tunnel: Tunnel, server: Server, pipeline: Pipeline
    ) -> None:
        """pipeline: the one that let the WebSocket in."""
        self._exchange = exchange
        self._tunnel = tunnel
        self._server = server
        self._drive: Drive | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wait(pipeline)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._drive is not None:
            self._drive.cancel()

    def _wait(self, pipeline: Pipeline | None) -> None:
        """Judge it again in time; without anything to be judged by, it stays as it is."""
        self._timer = self._drive = None
        if pipeline is not None and pipeline.rechecks:
            every = min(one.every for one in pipeline.rechecks)
            self._timer = asyncio.get_running_loop().call_later(every, self._begin)

    def _begin(self) -> None:
        self._drive = Drive(self._judge(), self._judged)
        self._drive.start()

    async def _judge(self) -> Pipeline | None:
        """Raises what the hooks raise; returns the pipeline that they belong to."""
        snapshot = self._server.runtime.snapshot
        route = snapshot.route(self._exchange.route.name)
        if route is None:
            return None
        snapshot.active += 1
        try:
            for one in route.pipeline.rechecks:
                pending = one.judge(self._exchange)
                if pending is not None:
                    await driven(pending)
        except Failed as failed:
            if failed.failure.status in (401, 403):
                raise
            log.info("a WebSocket of %s cannot be judged now: %s", self._exchange.client_ip, failed)
        finally:
            snapshot.leave()
        pipeline: Pipeline = route.pipeline
        return pipeline

    def _judged(self, pipeline: Pipeline | None, error: BaseException | None) -> None:
        if error is None:
            self._wait(pipeline)
        elif isinstance(error, Failed):
            self._drive = None
            self._tunnel.go_away(error.failure.reason, POLICY_VIOLATION)
        elif not isinstance(error, asyncio.CancelledError):
            log.error("a WebSocket is not judged any more", exc_info=error)
            self._drive = None
