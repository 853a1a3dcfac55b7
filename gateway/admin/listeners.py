"""The admin listener and that for metrics alone: their sockets, TLS and audit log."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from gateway.admin.application import PUBLIC, make_app
from gateway.admin.audit import AdminAudit
from gateway.admin.listener import BACKLOG, AdminListener
from gateway.admin.state import AdminState
from gateway.config.tables.addresses import AdminConfig, ListenAddress
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.hooks import ConfigProblem
from gateway.lifetime.registry import Draft
from gateway.protocols.tls import server_tls
from gateway.runtime.reload import Runtime

log = logging.getLogger("gateway")

Bind = Callable[[str, Sequence[ListenAddress], int], Awaitable[list[socket.socket]]]
"""Binds the sockets of a table: its name, where, and how many connections may wait."""


class AdminListeners:
    """Both listeners of one process; none before `start` and after `stop`."""

    def __init__(self, runtime: Runtime, bind: Bind) -> None:
        self._runtime = runtime
        self._bind = bind
        self._admin: AdminListener | None = None
        self._metrics: AdminListener | None = None
        self._kept: Draft | None = None

    async def start(self, state: AdminState, config: AdminConfig) -> None:
        """Serve `state`. Raises ConfigErrors or OSError."""
        tls, audit = self._tls(config), self._audit(config)
        self._admin = AdminListener(make_app(state, config, audit=audit), tls)
        where = [ListenAddress(config.host, config.port)]
        await self._admin.start(await self._bind("admin", where, BACKLOG))
        if config.metrics is not None:
            where = [ListenAddress(config.metrics.host, config.metrics.port)]
            self._metrics = AdminListener(make_app(state, config, PUBLIC, audit), tls)
            await self._metrics.start(await self._bind("metrics", where, BACKLOG))

    async def stop(self) -> None:
        """Stop listening and end every connection. Harmless twice."""
        listeners, kept = (self._admin, self._metrics), self._kept
        self._admin = self._metrics = self._kept = None
        for one in listeners:
            if one is not None:
                await one.stop()
        if kept is not None:
            kept.release()

    @property
    def port(self) -> int:
        return self._admin.port if self._admin is not None else 0

    @property
    def metrics_port(self) -> int:
        return self._metrics.port if self._metrics is not None else 0

    def renew_tls(self) -> None:
        """Take renewed certificates. Other changes of [admin] need a restart."""
        config = self._runtime.snapshot.loaded.gateway.admin
        if config is None or config.tls is None or self._admin is None or self._admin.tls is None:
            return
        try:
            self._admin.tls = self._tls(config)
        except ConfigErrors as errors:
            log.error("the admin listener keeps its certificate: %s", errors.problems[0])
        if self._metrics is not None:
            self._metrics.tls = self._admin.tls

    def _tls(self, config: AdminConfig) -> ssl.SSLContext | None:
        """Raises ConfigErrors."""
        if config.tls is None:
            return None
        file, line, column = self._runtime.snapshot.loaded.locate("", ("admin", "tls"))
        try:
            return server_tls(config.tls, file.parent, lambda key, settings, make: make()).context
        except ConfigProblem as problem:
            found = Problem(file, line, column, f"admin.tls: {problem.message}", problem.hint)
            raise ConfigErrors([found]) from None

    def _audit(self, config: AdminConfig) -> AdminAudit | None:
        """Raises ConfigErrors."""
        if not config.audit:
            return None
        file, line, column = self._runtime.snapshot.loaded.locate("", ("admin", "audit"))
        # In the registry, so that USR1 opens it again, and an `auth` with the same file shares it.
        self._kept = self._runtime.registry.draft()
        try:
            return AdminAudit.of(config.audit, file.parent, self._kept.keep)
        except ConfigProblem as problem:
            raise ConfigErrors(
                [Problem(file, line, column, f"admin.audit: {problem.message}")]
            ) from None
