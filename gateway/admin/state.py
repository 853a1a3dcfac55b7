"""The running gateway as the admin application sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web
from prometheus_client.registry import Collector

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.targets import ServiceConfig
from gateway.core.telemetry import Telemetry
from gateway.runtime.reload import Outcome
from gateway.store.purges import Purge


class Requests(Protocol):
    """What is known of requests."""

    async def why(self, request_id: str) -> Mapping[str, Any] | None:
        """What is remembered of a request (requests.why.Why); None for nothing."""

    async def recent(self, most: int, wanted: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        """The last refused, failed and slow requests, the newest first.

        wanted: the `client`, `route` or `reason` of those that are asked for.
        """

    async def explain(self, question: Any) -> Mapping[str, Any] | None:
        """What would happen to a request (requests.explain.Explained), None while no worker serves.

        question: method, URL, pairs of header fields, body or None, client's address.
        """


class AdminState(Protocol):
    """What is asked of the running gateway.

    The mappings have the fields of answers.Health, .Config and .Status.
    """

    telemetry: Telemetry
    requests: Requests
    others: Collector
    """The default registry, or those of all workers."""

    async def refresh(self) -> None:
        """Bring up to date what is read from here; called before metrics, health and status."""

    def ready(self) -> bool:
        """Return True if new requests should be sent here."""

    def health(self) -> Mapping[str, Any]:
        """The condition of every upstream and its endpoints, and the worst of them."""

    def config(self) -> Mapping[str, Any]:
        """Return what is in force, by names."""

    def status(self) -> Mapping[str, Any]:
        """The process in numbers."""

    async def usage(self, client: str) -> Mapping[str, Any] | None:
        """What is kept of a client (builtins.usage.report), None where nothing counts it.

        Raises OSError.
        """

    def reset_circuit(self, name: str) -> bool | None:
        """Close an upstream's breaker by hand.

        False when it has none, None when there is no such upstream.
        """

    async def purge(self, purges: Sequence[Purge]) -> bool:
        """Purge the caches of all pipelines, of all workers and gateways. False when nothing is
        cached here. Raises StoreDown when other gateways could not be told."""

    def drain(self, name: str, url: str, drained: bool) -> bool | None:
        """Give an endpoint nothing new, or again something.

        False when there is none at `url`, None when there is no such upstream.
        """

    def register(self, name: str, config: EndpointConfig) -> bool | None:
        """Add an endpoint to an upstream.

        False when that takes none this way, None when there is no such upstream.
        """

    def deregister(self, name: str, url: str) -> bool:
        """Takes it out again; False when it was not there."""

    async def register_service(self, one: ServiceConfig) -> bool:
        """Register a service, or another address of one; whether that outlasts the process.

        Raises Unregistered, Unkept, ConfigErrors.
        """

    async def deregister_service(self, name: str, url: str) -> bool:
        """Take a service out, or with a URL one address of it; False when it was not registered.

        Raises Unkept, ConfigErrors.
        """

    async def reload(self) -> Outcome:
        """The next configuration, or the reasons against it."""


STATE: web.AppKey[AdminState] = web.AppKey("state")
