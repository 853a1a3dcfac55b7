"""A gateway whose program can be replaced while it serves (USR2): what it leaves and takes over.

This knows nothing of gateway.app, which is one of these.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.admin.listeners import AdminListeners
from gateway.config.tables.server import GatewayConfig
from gateway.core.telemetry import Telemetry
from gateway.lifetime.notify import ServiceManager
from gateway.lifetime.signals import HANDLED, blocked
from gateway.lifetime.sockets import Sockets
from gateway.lifetime.watch import Changes
from gateway.runtime.reload import Runtime
from gateway.serving.data_plane import DataPlane

if TYPE_CHECKING:
    from gateway.lifetime.channel import Channel
    from gateway.supervisor.replacement.elders import Elders
    from gateway.supervisor.replacement.handover import Handover

log = logging.getLogger("gateway")

REGISTRY = "registry"
"""The part of a handover that states of the registry's objects are."""


class Replaceable:
    """The parts of a gateway that a replacement is about are the gateway's own.

    elders: workers of the program before, None if there was none.
    """

    runtime: Runtime
    plane: DataPlane
    sockets: Sockets
    manager: ServiceManager
    telemetry: Telemetry
    _bound: dict[str, list[socket.socket]]
    _draining: bool
    _stop: asyncio.Event
    _changes: Changes | None
    admin: AdminListeners
    _in_background: Callable[[Any], None]

    def __init__(self, handover: Handover | None) -> None:
        self._handover = handover
        self._bound = {}
        self.elders: Elders | None = None
        self._upgrading = False
        self._copy = self._leaving = False
        """This process is the copy that serves on while a new program starts."""

    def _inherit_kept(self) -> None:
        """Take over what the program before has kept: counts, sessions. Before anything is
        composed."""
        if self._handover is not None:
            self.runtime.registry.load(self._handover.parts[REGISTRY])

    def _inherit(self, config: GatewayConfig) -> None:
        """Take over sockets and workers of the program before, if there was one."""
        handover, self._handover = self._handover, None
        if handover is None:
            return
        from gateway.supervisor.replacement.elders import Elders

        self.sockets = handover.inherited(listener_addresses(config))
        self.elders = Elders(handover, self._give)
        self.elders.start(self._told_by_elders())

    def _let_elders_leave(self) -> None:
        if self.elders is not None:
            self._in_background(self.elders.leave)

    def _give(self, listener: int, accepted: socket.socket) -> None:
        """Serve a connection that a worker of the program before has not taken."""
        if listener < len(self.plane.listeners):
            self.plane.listeners[listener].take(accepted)
        else:
            accepted.close()

    def _told_by_elders(self) -> Mapping[str, Callable[..., object]]:
        return {}

    async def upgrade(self) -> None:
        """Let the program that is on disk now take this one's place, or say why not."""
        from gateway.supervisor.replacement.execution import quiet, refused

        if self._upgrading or self._draining:
            return
        self._upgrading = True
        log.info("upgrade: checking the new program and its configuration")
        self.manager.reloading()
        try:
            problems = await refused()
            for line in problems:
                log.error("%s", line)
            if problems:
                log.error("upgrade refused: %d problem(s); this program goes on", len(problems))
                return
            log.info("upgrade: executing the new program")
            await quiet()
            with blocked(HANDLED):  # What comes from now on is for the new program.
                await asyncio.sleep(0)  # What has come is acted upon, and may be a stop.
                if not self._stop.is_set():
                    self._execute()
        except OSError as error:
            log.error("upgrade failed: %s; this program goes on", error)
        finally:
            self._upgrading = False
            if not self._copy:
                self.manager.ready()

    def handover(self) -> Handover:
        """Return what a new program needs of this one."""
        from gateway.supervisor.replacement.handover import Handover

        assert self.runtime.started is not None
        configured = listener_addresses(self.runtime.started)
        made = Handover(
            [
                (name, configured.get(name, ""), one.fileno())
                for name, sockets in self._bound.items()
                for one in sockets
            ]
        )
        made.parts[REGISTRY] = self.runtime.registry.dump()
        if self.elders is not None:
            self.elders.hand_over(made)
        return made

    def _execute(self) -> None:
        from gateway.supervisor.replacement.execution import execute_beside
        from gateway.supervisor.sums.readings import read

        def leave() -> tuple[Handover, bytes]:
            return self.handover(), marshal.dumps((read(self.runtime.services.telemetry),))

        self._serve_on(execute_beside(leave))

    def _serve_on(self, channel: Channel) -> None:
        """Be the copy: serve until the new program does, then until nothing is left to do."""
        from gateway.supervisor.sums.readings import read

        self._copy = True
        log.info("pid %d serves until the new program does", os.getpid())
        self.manager = ServiceManager()
        self.sockets.files.clear()
        self.elders = None
        if self._changes is not None:
            self._changes.close()
        self._in_background(self.admin.stop)
        telemetry = self.runtime.services.telemetry

        def reading() -> bytes:
            return marshal.dumps((read(telemetry),))

        async def leave() -> bool:
            closed = asyncio.Event()
            self._in_background(partial(self._leave, closed))
            await closed.wait()
            return True

        def hurry(delay: float) -> None:
            self.plane.hurry()
            if not self._leaving:
                self._stop.set()

        def stop() -> None:
            if channel.open:
                channel.post("left", reading())
                channel.detach()
            self._stop.set()

        self._left = stop
        channel.on("reading", reading)
        channel.on("leave", leave)
        channel.on("stop", hurry)
        channel.start(self._stop.set)

    async def _leave(self, closed: asyncio.Event) -> None:
        self._leaving = True
        timeout = self.runtime.snapshot.loaded.gateway.server.shutdown_timeout
        await self.plane.leave(timeout, closed.set)
        self._left()

    async def refresh(self) -> None:
        """Bring up to date what other processes know."""
        if self.elders is None:
            return
        from gateway.supervisor.sums.readings import read, telemetry_of, total

        await self.elders.refresh()
        own = read(self.runtime.services.telemetry)
        self.telemetry = telemetry_of(total([own, *self.elders.readings()]))


def listener_addresses(config: GatewayConfig) -> dict[str, str]:
    """Return what the configuration says of each listener's addresses, to be compared."""
    listen, admin = config.listen, config.admin
    found = {"listen": repr(listen.bound), "redirect": repr(listen.redirected)}
    if admin is not None:
        found["admin"] = repr((admin.host, admin.port))
        found["metrics"] = repr(admin.metrics)
    return found
