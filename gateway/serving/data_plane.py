"""The data plane of one process: the listener of `[listen]`, and that of its redirect to https."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from gateway.config.tables.server import ListenConfig
from gateway.runtime.reload import Runtime
from gateway.serving.net.listener import Listener


class DataPlane:
    """Both listeners. `make` is Listener or a kind of it."""

    def __init__(self, runtime: Runtime, make: Callable[..., Listener] = Listener) -> None:
        self._runtime = runtime
        self._make = make
        self.listeners: list[Listener] = []

    def __repr__(self) -> str:
        return f"<DataPlane {self.listeners}>"

    @property
    def connections(self) -> int:
        return sum(len(listener.connections) for listener in self.listeners)

    def start(
        self,
        config: ListenConfig,
        sockets: Sequence[socket.socket],
        redirected: Sequence[socket.socket],
        port: int,
    ) -> None:
        """Accept from sockets of `[listen]` and of its redirect, which leads to `port`."""
        self._listen(self._make(self._runtime), config, sockets)
        if config.redirect is not None:
            from gateway.serving.redirect import NAME, Redirects

            to_https = Redirects(self._runtime, config.redirect, port)
            self._listen(self._make(to_https, NAME), config, redirected)

    def _listen(
        self, listener: Listener, config: ListenConfig, sockets: Sequence[socket.socket]
    ) -> None:
        self.listeners.append(listener)
        listener.start(config, sockets)

    def configure(self) -> None:
        """Follow the configuration in force."""
        for listener in self.listeners:
            listener.configure()

    async def leave(self, timeout: float, closed: Callable[[], object]) -> None:
        """Accept nothing new, since other processes do, and call `closed`; see Listener.leave."""
        if not self.listeners:
            closed()
            return
        listener, *others = self.listeners
        nothing: Callable[[], object] = lambda: None  # noqa: E731
        await asyncio.gather(
            *(other.leave(timeout, nothing) for other in others), listener.leave(timeout, closed)
        )
        self.listeners.clear()

    def hurry(self) -> None:
        """End a `leave` that is under way as `stop` does, in the time that it has left."""
        for listener in self.listeners:
            listener.hurried = True

    async def stop(
        self, delay: float, timeout: float, closing: Callable[[], object] = lambda: None
    ) -> None:
        """Serve for `delay` seconds more, each connection until its next answer; then accept
        nothing new, which `closing` is called before, and drain for at most `timeout`."""
        if not self.listeners:
            return
        listener, *others = self.listeners
        if delay:
            # Balancers in front have yet to find out; until then refusing would be an error for
            # clients.
            listener.draining = True
            await asyncio.sleep(delay)
        closing()
        await listener.stop(timeout)
        for other in others:
            await other.stop(0)
        self.listeners.clear()
