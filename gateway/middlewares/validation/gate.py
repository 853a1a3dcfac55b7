"""The checks on a request's way, cheapest first: head, parameters, body."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, NoReturn

from gateway.core.exchange import Decision, Exchange, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import Context
from gateway.core.wait import own
from gateway.middlewares.validation.cleaning import Cleaning
from gateway.middlewares.validation.config import ValidationConfig
from gateway.middlewares.validation.judge import Judge, Verdict
from gateway.middlewares.validation.messages import INVALID, MISSING, Entry, entry
from gateway.middlewares.validation.operation import OperationChecks
from gateway.middlewares.validation.parameters import Strings, parsed
from gateway.middlewares.validation.reading import (
    Kind,
    body_of,
    form_text,
    most_members,
    value_of,
)
from gateway.middlewares.validation.schemas import NO_CLEANING, Schema, compiled, is_missing
from gateway.protocols.json_text import Bounds, Unreadable

_FORM = "application/x-www-form-urlencoded"
_XML = frozenset(("application/xml", "text/xml"))
_READABLE = "application/json, application/*+json, application/x-www-form-urlencoded"
_PARAMETER = re.compile(r';\s*([^\s=;,"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))')
_UTF8 = frozenset(("", "utf-8", "utf8", "us-ascii"))

INLINE = 32 * 1024
"""Bytes of a body that are judged on the loop: some milliseconds at worst.

Larger ones go to judge.py.
"""
COSTLY_ERRORS = 0.25
"""Seconds for what is wrong with a body where that may be much to say."""
MAX_BODY, MAX_BODY_JUDGED = 10_000_000, 1_000_000
"""Bytes that a body may have by default, without and with a schema for it."""


class Gate:
    """One pipeline's (or route's) checks.

    `body`, `query` and `path` are compiled schemas, None where there is none.
    """

    def __init__(self, config: ValidationConfig, context: Context) -> None:
        def schema(at: str) -> Schema | None:
            given = getattr(config, at)
            if given is None or config.operation is not None:
                return None
            # A path's variables are part of the path that is sent on, and stay as they are.
            how = NO_CLEANING if at == "path" else cleaning
            return compiled(given, at, context.directory, config.split, how)

        self.reports = config.report or (config.operation is not None and config.operation.report)
        cleaning = Cleaning(
            config.defaults,
            config.coerce,
            config.unknown == "strip",
            config.sanitize,
            xml=config.xml == "json",
        )
        if self.reports:
            cleaning = NO_CLEANING  # What is only reported goes on as it came.
        self.body, self.query, self.path = schema("body"), schema("query"), schema("path")
        self.operation: OperationChecks | None = None
        if config.operation is not None:
            self.operation = OperationChecks(config.operation, cleaning)
        self._name = context.name
        judged = self.reads_bodies
        self._most_judged = config.max_body or MAX_BODY_JUDGED
        self._most = config.max_body or (MAX_BODY if self.body is None else MAX_BODY_JUDGED)
        self._bounds = Bounds(config.max_depth, config.max_members)
        self._body_required = config.body_required
        self._judge: Judge = context.keep(("validation judge",), None, Judge) if judged else Judge()
        self._methods = frozenset(config.methods)
        self._types = _pattern(config.content_types)
        self._required = config.required_headers
        self._xml = config.xml
        self._accept: tuple[Pair, ...] = ((b"Accept", ", ".join(config.content_types).encode()),)

    @property
    def reads_bodies(self) -> bool:
        """Whether bodies are judged, rather than only limited in size."""
        return self.body is not None if self.operation is None else bool(self.operation.bodies)

    def bounds(self, exchange: Exchange) -> None:
        """Size and media type, as far as the head tells them. Raises Failed."""
        self._head(exchange)
        if exchange.decisions is not None:
            self._explain(exchange)

    def with_parameters(self, exchange: Exchange) -> None:
        """And the parameters. Raises Failed."""
        self._head(exchange)
        self._parameters(exchange)
        if exchange.decisions is not None:
            self._explain(exchange)

    @own
    async def with_body(self, exchange: Exchange) -> None:
        """And the body, which is kept so that it can still be sent on. Raises Failed."""
        self._head(exchange)
        self._parameters(exchange)
        asked = self.operation is not None or exchange.method in self._methods
        if asked:
            errors = await self._body_errors(exchange)
            if errors:
                self._invalid(exchange, "body", errors)
        if exchange.decisions is not None:
            self._explain(exchange)

    def _head(self, exchange: Exchange) -> None:
        if self._required and (
            errors := [
                entry((name,), MISSING, "is required")
                for name in self._required
                if name not in exchange.headers
            ]
        ):
            detail = f"The request has no {errors[0]['field']} header."
            self._refuse(
                exchange, Failure.MALFORMED, detail, errors=errors, at=("required_headers",)
            )
        if exchange.body is not None:
            self._bound(exchange, exchange.body)

    def _bound(self, exchange: Exchange, body: RequestBody) -> None:
        most, length = self._most, body.length
        if length is not None and length > most:
            self._refuse(
                exchange,
                Failure.BODY_TOO_LARGE,
                f"The request's body may have at most {most} bytes.",
                why=f"{length} bytes, more than max_body, {most} bytes",
                at=("max_body",),
            )
        if body.limit is None or body.limit > most:
            body.limit = most
        if self._types is not None:
            given = _field(exchange, "Content-Type")
            if not self._types.fullmatch(_media_type(given)):
                self._unsupported(exchange, "Content-Type", given, self._accept)

    def _parameters(self, exchange: Exchange) -> None:
        if self.operation is not None:
            try:
                found = self.operation.parameter_errors(exchange)
            except ValueError:  # What is no UTF-8; as surrogates, where it has been decoded.
                self._refuse(exchange, Failure.MALFORMED, "The parameters are not UTF-8.")
            if found is not None:
                self._invalid(exchange, *found)
            self.operation.clean_query(exchange)
            return
        if self.path is not None:
            self._check_strings(
                "path",
                self.path,
                {name: [value] for name, value in exchange.params.items()},
                exchange,
            )
        if self.query is not None:
            try:
                strings = parsed(exchange.query)
            except ValueError:
                self._refuse(
                    exchange, Failure.MALFORMED, "The query is not made of parameters in UTF-8."
                )
            values = self._check_strings("query", self.query, strings, exchange)
            if self.query.cleans and (clean := form_text(values, self.query.split)) != form_text(
                self.query.typed(strings), self.query.split
            ):
                exchange.query = clean
                exchange.target = exchange.path + ("?" + exchange.query if exchange.query else "")

    def _check_strings(
        self, part: str, schema: Schema, strings: Strings, exchange: Exchange
    ) -> dict[str, Any]:
        """Return the parameters as they were judged. Raises Failed."""
        try:
            values: dict[str, Any] = schema.cleaned(schema.typed(strings))
            errors = schema.errors(values)
        except UnicodeEncodeError:
            # Bytes that are no UTF-8 travel as surrogates (PEP 383); no schema can judge them.
            self._refuse(exchange, Failure.MALFORMED, f"The {part} is not UTF-8.")
        if errors:
            for one in errors:
                if len(strings.get(one["field"], ())) > 1 and one["message"].startswith("must be "):
                    one["message"] = f"is there more than once; it {one['message']}"
            self._invalid(exchange, part, errors)
        return values

    async def _body_errors(self, exchange: Exchange) -> list[Entry]:
        """Return what is wrong with the body. The clean one stands in its place where there is one.

        Raises Failed when there is none, or none that can be read.
        """
        body = exchange.body
        if body is None or body.length == 0:
            return self._no_body(exchange)
        schema, kind = self._reading(exchange)
        if schema is None:
            return []
        data = await body.whole(self._most_judged)
        if not data:
            return self._no_body(exchange)
        converts = kind == "xml" and self._xml == "json" and not self.reports
        rewrites = converts or (schema.cleans and kind != "xml")
        try:
            errors, clean = await self._verdict(schema, data, kind, rewrites)
        except Unreadable as error:
            self._refuse(exchange, error.failure, error.detail, why=error.why)
        except UnicodeEncodeError:
            self._refuse(exchange, Failure.MALFORMED, "The body is not UTF-8.")
        if clean is not None:
            exchange.replace_body(clean, b"application/json" if converts else b"")
        return errors

    async def _verdict(self, schema: Schema, data: bytes, kind: Kind, rewrites: bool) -> Verdict:
        """Judge a body here, in the helper process, or in a thread. Raises Unreadable."""
        if len(data) <= INLINE:
            value = value_of(data, kind, schema, self._bounds)
            members = most_members(data, kind)
            if schema.portable is None or schema.explains_at_once(members):
                errors = schema.errors(value, members)
            elif schema.is_valid(value):
                errors = []
            else:
                errors = await self._costly_errors(schema.portable, data, kind)
            return errors, body_of(value, kind, schema) if rewrites and not errors else None
        if schema.portable is not None:
            return await self._judge.verdict(
                schema.portable, data, kind, self._bounds, rewrite=rewrites
            )
        # A class of the operator's is Python, which lets others have their turn.
        judge = partial(_errors, schema, data, kind, self._bounds)
        return await asyncio.get_running_loop().run_in_executor(None, judge), None

    async def _costly_errors(
        self, portable: dict[str, Any], data: bytes, kind: Kind
    ) -> list[Entry]:
        """Return what is wrong with a body known to be wrong, as far as it is found in time."""
        try:
            return (await self._judge.verdict(portable, data, kind, self._bounds, COSTLY_ERRORS))[0]
        except Unreadable:
            return [entry((), INVALID, "is not as it must be")]

    def _reading(self, exchange: Exchange) -> tuple[Schema | None, Kind]:
        """Return the body's schema, None for one that is not judged, and what the body is.

        Raises Failed for what may not be sent or is coded.
        """
        given = _field(exchange, "Content-Type")
        media_type = _media_type(given)
        kind: Kind
        schema: Schema | None = self.body
        if self.operation is not None:
            found = self.operation.body_for(media_type)
            if found is None:
                accept = ", ".join(self.operation.bodies).encode()
                self._unsupported(exchange, "Content-Type", given, ((b"Accept", accept),))
            schema, kind = found[0], found[1] or "json"
            if schema is None or found[1] is None:
                return None, kind
        elif media_type == "application/json" or media_type.endswith("+json"):
            kind = "json"
        elif media_type == _FORM:
            kind = "form"
        elif self._xml != "refuse" and (media_type in _XML or media_type.endswith("+xml")):
            kind = "xml"
        else:
            self._unsupported(exchange, "Content-Type", given, ((b"Accept", _READABLE.encode()),))
        charset = _charset(given)
        if charset.lower() not in _UTF8:
            self._unsupported(exchange, "charset", charset, ())
        coding = _field(exchange, "Content-Encoding")
        if coding.lower() not in ("", "identity"):
            # RFC 9110 section 15.5.16: says which codings would have been understood.
            self._unsupported(
                exchange, "Content-Encoding", coding, ((b"Accept-Encoding", b"identity"),)
            )
        return schema, kind

    def _no_body(self, exchange: Exchange) -> list[Entry]:
        required = self._body_required if self.operation is None else self.operation.required
        return [entry((), MISSING, "a body is required")] if required else []

    def _unsupported(
        self, exchange: Exchange, field: str, given: str, headers: tuple[Pair, ...]
    ) -> NoReturn:
        detail = f"This {field} is not supported." if given else f"The {field} is missing."
        self._refuse(
            exchange,
            Failure.UNSUPPORTED_MEDIA_TYPE,
            detail,
            headers=headers,
            why=f"{field} {given[:100]!r}",
            at=("content_types",) if self._types is not None else ("body",),
        )

    def _invalid(self, exchange: Exchange, part: str, errors: list[Entry]) -> NoReturn:
        failure = Failure.MISSING_FIELD if is_missing(errors) else Failure.INVALID_FIELD
        first = f"{part}: {errors[0]['field']!r} {errors[0]['message']}"
        self._refuse(
            exchange,
            failure,
            f"The request's {part} is not as it must be.",
            errors=errors,
            why=first,
            at=(part,),
        )

    def _refuse(
        self, exchange: Exchange, failure: Failure, detail: str, *, why: str = "", **more: Any
    ) -> NoReturn:
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(self._name, "refused", why or detail))
        raise Failed(failure, detail, why=why, by=self._name, **more)

    def _explain(self, exchange: Exchange) -> None:
        assert exchange.decisions is not None
        if self.operation is not None:
            what = "parameters and body" if self.operation.bodies else "parameters"
            why = f"{what} fit {self.operation.name}"
            exchange.decisions.append(Decision(self._name, "allowed", why))
            return
        schemas = ((part, getattr(self, part)) for part in ("path", "query"))
        checked = [f"{part} fits {schema.name}" for part, schema in schemas if schema is not None]
        if self.body is not None and exchange.method in self._methods:
            checked.append(f"body fits {self.body.name}")
        checked.append(f"at most {self._most} bytes of body")
        exchange.decisions.append(Decision(self._name, "allowed", "; ".join(checked)))


def _field(exchange: Exchange, name: str) -> str:
    """All lines of a field: an origin may go by the second, so the first alone proves nothing."""
    return ", ".join(exchange.headers.getall(name, ()))


def _charset(content_type: str) -> str:
    """Return the charset parameter, "" without one.

    What looks like one inside another's quotes is none.
    """
    for name, quoted, plain in _PARAMETER.findall(content_type):
        if name.lower() == "charset":
            return quoted or plain  # type: ignore[no-any-return]
    return ""


def _errors(schema: Schema, data: bytes, kind: Kind, bounds: Bounds) -> list[Entry]:
    """Return what is wrong with a body, on the spot. Raises Unreadable."""
    value = value_of(data, kind, schema, bounds)
    return schema.errors(value, most_members(data, kind))


def _media_type(given: str) -> str:
    return given.partition(";")[0].strip().lower()


def _pattern(types: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what matches any of the media types; "*" takes any part of a name."""
    if not types:
        return None
    return re.compile("|".join(re.escape(one.lower()).replace(r"\*", "[^/]+") for one in types))
