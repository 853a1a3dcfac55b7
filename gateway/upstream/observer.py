"""Observe upstreams: active checks, and discovery of endpoints.

Of several workers none observes: the supervisor does, once for the machine, and tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.config.check.compile import LoadedConfig
from gateway.upstream.connections.checks import check
from gateway.upstream.connections.transport import Transport
from gateway.upstream.discovery.sources import Discovery, Found
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool
from gateway.upstream.pool.prober import Prober

if TYPE_CHECKING:
    from gateway.upstream.connections.tls import UpstreamTls


def discover(
    pool: Pool, found: Found, transport: Transport, tls: Mapping[str, UpstreamTls]
) -> None:
    """Put the endpoints that were found for an upstream into its pool."""
    pool.discovered(found)
    transport.secure(pool.name, pool.endpoints, tls.get(pool.name), pool.config.protocol)


class Observer:
    """Probers and discoveries by upstream, following the configuration in force.

    tell: takes what was seen, for other processes: ("probed", upstream, endpoint) after a check,
          ("discovered", upstream, found) when an upstream's endpoints change.
    """

    def __init__(
        self,
        transport: Transport,
        environ: Mapping[str, str],
        tell: Callable[..., object] = lambda *seen: None,
    ) -> None:
        self.probers: dict[str, Prober] = {}
        self.discoveries: dict[str, Discovery] = {}
        self.tell = tell
        self._transport = transport
        self._environ = environ
        self._pools: Mapping[str, Pool] = {}
        self._tls: Mapping[str, UpstreamTls] = {}

    def __repr__(self) -> str:
        return f"<Observer, {len(self.probers)} probers, {len(self.discoveries)} discoveries>"

    def follow(
        self, loaded: LoadedConfig, pools: Mapping[str, Pool], tls: Mapping[str, UpstreamTls]
    ) -> None:
        """Start, change and stop checks and discovery as `loaded`, now in force, says."""
        self._pools, self._tls = pools, tls
        self._probe()
        self._discover(loaded)

    def stop(self) -> None:
        for prober in self.probers.values():
            prober.stop()
        self.probers.clear()
        for discovery in self.discoveries.values():
            discovery.stop()
        self.discoveries.clear()

    def _probe(self) -> None:
        for name in self.probers.keys() - self._pools.keys():
            self.probers.pop(name).stop()
        for name, pool in self._pools.items():
            if name not in self.probers:
                self.probers[name] = Prober(
                    pool, partial(check, self._transport), partial(self._probed, pool)
                )
            self.probers[name].sync()

    def _probed(self, pool: Pool, endpoint: Endpoint, *result: Any) -> None:
        pool.probed(endpoint, *result)
        self.tell("probed", pool, endpoint)

    def _discover(self, loaded: LoadedConfig) -> None:
        looking = {name for name, config in loaded.upstreams.items() if config.discover is not None}
        for name in self.discoveries.keys() - looking:
            self.discoveries.pop(name).stop()
        for name, config in loaded.upstreams.items():
            if config.discover is not None:
                if name not in self.discoveries:
                    apply = partial(self._discovered, name)
                    self.discoveries[name] = Discovery(self._pools[name], apply, self._environ)
                directory = loaded.locate("", ("upstream", name))[0].parent
                self.discoveries[name].sync(config.discover, directory)

    def _discovered(self, name: str, found: Found) -> None:
        discover(self._pools[name], found, self._transport, self._tls)
        self.probers[name].sync()
        self.tell("discovered", self._pools[name], found)
