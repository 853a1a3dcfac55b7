"""`gateway explain`: what would happen to a request. Nothing is sent, counted or used up.

The request goes the way of every other: the same admission, router, hooks and pools decide. Hooks
see that the exchange has a list of decisions, and leave no trace beside it. Operators' own hooks
are not asked, since nothing is known of what they do.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from inspect import isawaitable
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from gateway import middlewares
from gateway.core.content.bodies import ReplacedBody
from gateway.core.content.masking import Masks
from gateway.core.exchange import CACHE_KEY, Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import is_ours
from gateway.core.refusals import shadow_client
from gateway.runtime.build import settings_of
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.snapshot import Route, Snapshot
from gateway.runtime.why.memory import Memories, shown_decision
from gateway.runtime.why.recorder import Recorder, masks_of, why_of
from gateway.serving.admission import Admission
from gateway.serving.endings import blame, pipeline_of
from gateway.serving.lifecycle import match
from gateway.upstream.dry_run import chains, eligible, head_of, version_of
from gateway.upstream.forward import Forward


class Question(NamedTuple):
    """A request to be explained. url: absolute, or a path; then Host is that of `headers`."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    client_ip: str = "127.0.0.1"


class DryRun:
    """One request on its way through a snapshot."""

    def __init__(self, snapshot: Snapshot, question: Question) -> None:
        gateway = snapshot.loaded.gateway
        uppercase = gateway.routing.uppercase_methods
        self._admission = Admission(gateway.server, uppercase_methods=uppercase)
        self._snapshot = snapshot
        self._decisions: list[Decision] = []
        self._exchange = self._made(question)
        self._sends: dict[str, Any] | None = None
        self._endpoints: list[dict[str, Any]] = []
        self._limits: list[dict[str, Any]] = []
        self._secrets = middlewares.secrets(settings_of(snapshot.loaded))
        memories = Memories(lambda: 0.0)
        self._recorder = Recorder(snapshot.loaded, memories, self._secrets, lambda: 0.0)

    def _made(self, question: Question) -> Exchange:
        parts = urlsplit(question.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = list(question.headers)
        names = {name.lower() for name, _ in fields}
        if "host" not in names:
            fields.insert(0, ("Host", parts.netloc or "localhost"))
        if question.body is not None and "content-length" not in names:
            fields.append(("Content-Length", str(len(question.body))))
        pairs = [
            (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields
        ]
        exchange = self._admission.exchange(
            question.method,
            target,
            CIMultiDictProxy(CIMultiDict(fields)),
            pairs,
            (1, 1),
            question.client_ip,
            parts.scheme or ("http" if self._snapshot.tls is None else "https"),
            perf_counter(),
            {},
        )
        if question.body is not None:
            exchange.body = ReplacedBody(question.body)
            exchange.body.limit = self._snapshot.loaded.gateway.server.max_body
        exchange.decisions = self._decisions
        return exchange

    async def run(self) -> dict[str, Any]:
        """Return what would happen."""
        exchange = self._exchange
        outlet: Any = SimpleNamespace(admission=self._admission, switching=True, last=False)
        try:
            route = match(exchange, outlet, self._snapshot)
            at = self._recorder.places.of_route(route.name)
            self._decisions.append(Decision("routing", "matched", f"route {route.name}", at))
            reply = await self._ask(route.pipeline, route)
            if reply is None:
                reply = await self._target(route)
            exchange.reply = reply
        except Exception as error:
            await self._fail(error)
        return self._shown()

    async def _ask(self, pipeline: Pipeline, route: Route) -> Reply | None:
        """As Pipeline.ask."""
        exchange, found = self._exchange, self._decisions
        for (hook, *_), (name, _) in zip(pipeline.request, pipeline.described, strict=True):
            if not is_ours(hook):
                why = "an operator's own hook is not asked in a dry run"
                found.append(Decision(name, "skipped", why, self._at(pipeline, route, name)))
                continue
            before = len(found)
            if (left := getattr(hook, "status", None)) is not None:
                with suppress(Failed):  # Of a body that a limit goes by: the hook says so.
                    self._limits += await _settled(left(exchange))
            try:
                reply = await _settled(hook(exchange))
            except Failed as failed:
                failed.by = failed.by or name
                if len(found) == before:
                    found.append(Decision(name, "refused", why_of(failed)))
                self._place(before, pipeline, route, name, failed)
                raise
            if name and len(found) == before:
                found.append(Decision(name, "passed" if reply is None else "answered"))
            self._place(before, pipeline, route, name)
            if reply is not None:
                return reply  # type: ignore[no-any-return]
        return None

    def _at(self, pipeline: Pipeline, route: Route, name: str, failed: Failed | None = None) -> str:
        return self._recorder.at(pipeline, route.name, name, failed.at if failed else ())

    def _place(
        self,
        since: int,
        pipeline: Pipeline,
        route: Route,
        name: str,
        failed: Failed | None = None,
    ) -> None:
        """Say where the decisions of a hook come from; the last one is that which refused."""
        found, last = self._decisions, len(self._decisions) - 1
        for place in range(since, len(found)):
            at = self._at(pipeline, route, name, failed if place == last else None)
            found[place] = replace(found[place], at=at)

    async def _target(self, route: Route) -> Reply | None:
        """The gateway's own answer, where that is known without effect; None if another has it."""
        exchange, target = self._exchange, route.target
        at = self._recorder.places.of_route(route.name)
        if not route.awaited:
            reply: Reply = target(exchange)
            what = route.config.builtin or "the route itself"
            self._decisions.append(Decision(what, "answers", f"{reply.status}", at))
            return reply
        if not route.config.upstream:
            why = "it is not asked in a dry run"
            self._decisions.append(Decision(route.config.builtin or "gateway", "skipped", why, at))
            return None
        found = chains(target.__self__, exchange)  # type: ignore[attr-defined]
        failures = [failed for chain in found if (failed := self._try(chain)) is not None]
        if len(failures) == len(found):
            raise failures[0]
        return None

    def _try(self, chain: list[Forward]) -> Failed | None:
        """Add what a chain of upstreams would do; the failure of the last if none can be asked."""
        failed: Failed | None = None
        for forward in chain:
            pool, name = forward.pool, forward.pool.name
            self._exchange.upstream = name
            failed = pool.refusal()
            if failed is not None:
                at = self._recorder.of_upstream(self._exchange, failed)
                self._decisions.append(Decision("upstream", "refuses", why_of(failed), at))
                continue
            endpoints = eligible(forward)
            why = f"{name}: {', '.join(one.name for one in endpoints)} ({pool.config.balance})"
            at = self._recorder.places.of_upstream(name)
            self._decisions.append(Decision("upstream", "would ask", why, at))
            self._endpoints += [{"upstream": name, **one} for one in pool.status()["endpoints"]]
            if self._sends is None:
                self._sends = self._sent(forward)
            return None
        return failed

    def _sent(self, forward: Forward) -> dict[str, Any]:
        """Return what the first endpoint would be sent."""
        endpoint = eligible(forward)[0]
        line, *fields = head_of(forward, self._exchange, endpoint).decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        masks = self._masks()
        pairs = [one.partition(": ")[::2] for one in fields if one]
        body = self._exchange.body
        return {
            "endpoint": endpoint.name,
            "method": method,
            "target": masks.text(target),
            "protocol": version_of(forward, self._exchange, endpoint),
            "headers": [[name, masks.field(name, value)] for name, value in pairs],
            "body_bytes": None if body is None else body.length,
        }

    def _masks(self) -> Masks:
        name = self._exchange.route.pipeline.name
        pipelines = self._snapshot.loaded.pipelines
        found = next((one for one in pipelines if one.name == name), None)
        return Masks(self._secrets) if found is None else masks_of(found, self._secrets)

    async def _fail(self, error: Exception) -> None:
        """Find the answer to a failure, as the error hooks of the gateway's own do."""
        exchange = self._exchange
        failed = exchange.failed = error if isinstance(error, Failed) else blame(exchange, error)
        pipeline = pipeline_of(exchange, self._snapshot)
        said = failed.by and exchange.route is not None  # By the hook, or by the upstream.
        if not said and (not exchange.upstream or failed.failure is Failure.INTERNAL):
            routed = None if exchange.route is None else pipeline
            self._decisions.append(self._recorder.failure(exchange, failed, routed))
        exchange.reply = None
        for hook, *_ in pipeline.error:
            if is_ours(hook):
                reply = await _settled(hook(exchange, failed))
                exchange.reply = reply if reply is not None else exchange.reply

    def _shown(self) -> dict[str, Any]:
        exchange, failed, route = self._exchange, self._exchange.failed, self._exchange.route
        masks, client = Masks(self._secrets), failed.client if failed is not None else ""
        if exchange.identity is not None:
            client = exchange.identity.client
        return {
            "request": {
                "id": exchange.request_id,
                "method": exchange.method,
                "path": exchange.path,
                "client_ip": exchange.client_ip,
            },
            "client": (client or shadow_client(exchange)) or None,
            "route": None if route is None else route.name,
            "pipeline": None if route is None else route.pipeline.name,
            "decisions": [shown_decision(one, masks.text) for one in self._decisions],
            "upstream": exchange.upstream or None,
            "attempts": [],
            "status": None if exchange.reply is None else exchange.reply.status,
            "reason": None if failed is None else failed.failure.reason,
            "code": None if failed is None else failed.failure.code,
            "cache_key": exchange.notes.get(CACHE_KEY),
            "limits": self._limits,
            "endpoints": self._endpoints,
            "sends": self._sends,
        }


async def _settled(outcome: Any) -> Any:
    return await outcome if isawaitable(outcome) else outcome


async def explain(snapshot: Snapshot, question: Question) -> dict[str, Any]:
    """Return what would happen to a request, with the fields of admin.requests.explain."""
    return await DryRun(snapshot, question).run()
