"""Put the portal of a route together: its `auth`, the places of keys, usage and failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.builtins.limits import Limited
from gateway.builtins.portal.account import Account, Recent
from gateway.builtins.portal.keys import InFile, InRedis, OwnKeys, Place
from gateway.builtins.portal.portal import Portal
from gateway.builtins.portal.sealing import PORTAL, Seal, SealingKey, of_process, of_supervisor
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.targets import PortalConfig
from gateway.config.toml.problems import Problem
from gateway.core.exchange import Exchange, Identity
from gateway.core.hooks import ConfigProblem, Hooks, kind_of
from gateway.credentials.audit import Audit
from gateway.lifetime.registry import Draft
from gateway.runtime.services import Report, Services
from gateway.store.local import Asked
from gateway.store.stores import BadUrl, SharedStore, StoreDown, parse
from gateway.usage.meter import Meter

TOKENS = {"jwt", "introspection"}


Surroundings = tuple[LoadedConfig, Draft, Services, SharedStore | None, Meter | None]


def portal(
    pipeline: PipelineConfig,
    route: RouteConfig,
    hooks: Mapping[str, Hooks],
    surroundings: Surroundings,
    beside: Callable[[], Iterable[Limited]],
    report: Report,
) -> Any:
    """Return the target, None when it is wrong. hooks: the route's, by name. beside: routes whose
    limits are told."""
    loaded = surroundings[0]
    try:
        return _portal(pipeline, route, hooks, surroundings, beside)
    except ConfigProblem as problem:
        path = ("route", pipeline.routes.index(route), "builtin")
        place = loaded.locate(pipeline.name, path)
        report(Problem(*place, f"route.builtin: {problem.message}", problem.hint))
    return None


def _portal(
    pipeline: PipelineConfig,
    route: RouteConfig,
    hooks: Mapping[str, Hooks],
    surroundings: Surroundings,
    beside: Callable[[], Iterable[Limited]],
) -> Callable[[Exchange], Awaitable[Any]]:
    loaded, draft, services, store, meter = surroundings
    name = _auth(pipeline, route)
    auth: Any = route.settings.get(name) or pipeline.settings[name]
    methods = set(auth.methods)
    schemes = ("ApiKey",) * ("api_key" in methods) + ("Bearer",) * bool(TOKENS & methods)
    if not schemes:
        raise ConfigProblem(
            "partners log in by an API key or a token, which auth does not take",
            hint='methods = ["api_key"]',
        )
    config = route.portal or PortalConfig()
    keys = None
    if "api_key" in methods:
        keys = OwnKeys(_place(auth, pipeline, loaded), config.overlap)
    hook: Any = hooks[name].request
    account = Account(pipeline, loaded.pipelines, meter, recent_of(services), keys, beside)
    seal, written = _seal(draft, services, store), _writes(hook.__self__.audit)
    return Portal(config, hook, schemes, seal, account, written, services.clock.wall).answer


def _auth(pipeline: PipelineConfig, route: RouteConfig) -> str:
    """Return the name of the `auth` that a portal asks. Raises ConfigProblem."""
    if not route.prefixed:
        raise ConfigProblem("the portal has pages below its own", hint='prefix = "/portal"')
    for name in pipeline.request if route.request is None else route.request:
        if kind_of(name) == "auth" and route.overrides.get(name) is not False:
            return name
    raise ConfigProblem(
        "the portal needs to know how partners log in", hint='add "auth" to the request list'
    )


def _place(auth: Any, pipeline: PipelineConfig, loaded: LoadedConfig) -> Place:
    """Return where an `auth` (AuthConfig) has its keys. Raises ConfigProblem."""
    if not auth.api_key.store:
        return InFile(auth.api_key.path(pipeline.file.parent, loaded.files[0].parent))
    url = auth.api_key.store
    try:
        return InRedis(parse(loaded.gateway.store.url if url == "redis" else url))
    except BadUrl as error:
        raise ConfigProblem(f"the store's URL {error}") from None


def recent_of(services: Services) -> Recent:
    """Return what gives the last requests that failed, of all workers."""
    local, why = services.local, services.why

    async def recent(most: int, wanted: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        if local is None:
            return why.recent(most, wanted)
        try:
            asked: Asked[Any] = Asked()
            found: list[Mapping[str, Any]] = await local.ask(asked, "everyones", most, dict(wanted))
        except StoreDown:
            return []
        return found

    return recent


def _seal(draft: Draft, services: Services, store: SharedStore | None) -> Seal:
    """Return what makes sessions: with a key of all gateways with a store, else of this one."""
    if store is not None:
        from gateway.builtins.portal.sealing_redis import of_redis
        from gateway.store.redis.client import RedisClient

        def make() -> RedisClient:
            clock, telemetry = services.clock, services.telemetry
            return RedisClient(store.url, max(store.deadline, 1.0), clock, telemetry)

        return Seal(of_redis(draft.keep(PORTAL, store, make)))
    key = draft.keep(PORTAL, None, SealingKey)
    return Seal(of_process(key) if services.local is None else of_supervisor(services.local))


def _writes(audit: Audit | None) -> Callable[[Exchange, str, Identity, str], None]:
    def written(exchange: Exchange, event: str, identity: Identity, what: str) -> None:
        if audit is not None:
            audit.session_event(exchange, event, "ok", identity.client, identity.user, "", what)

    return written
