"""The checks on a request's way, cheapest first: what the head says, its parameters, and last its body, which has to be read."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import orjson

from gateway.core.exchange import Decision, Exchange, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import Context
from gateway.middlewares.validation.config import ValidationConfig
from gateway.middlewares.validation.messages import MISSING, Entry, entry
from gateway.middlewares.validation.parameters import Strings, parsed
from gateway.middlewares.validation.schemas import Schema, compiled, is_missing

_FORM = "application/x-www-form-urlencoded"
_READABLE = "application/json, application/*+json, application/x-www-form-urlencoded"
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s;"]*)', re.IGNORECASE)
_UTF8 = frozenset(("utf-8", "utf8", "us-ascii"))


class Gate:
    """One pipeline's (or route's) checks; `body`, `query` and `path` are compiled schemas, None where there is none."""

    def __init__(self, config: ValidationConfig, context: Context) -> None:
        def schema(at: str) -> Schema | None:
            given = getattr(config, at)
            return None if given is None else compiled(given, at, context.directory)

        self.body, self.query, self.path = schema("body"), schema("query"), schema("path")
        self._name = context.name
        self._most = config.max_body
        self._methods = frozenset(config.methods)
        self._types = _pattern(config.content_types)
        self._accept: tuple[Pair, ...] = ((b"Accept", ", ".join(config.content_types).encode()),)

    def bounds(self, exchange: Exchange) -> None:
        """Size and media type, as far as the head tells them. Raises Failed."""
        body = exchange.body
        if body is not None:
            self._bound(exchange, body)
        if exchange.decisions is not None:
            self._explain(exchange)

    def with_parameters(self, exchange: Exchange) -> None:
        """And the parameters. Raises Failed."""
        body = exchange.body
        if body is not None:
            self._bound(exchange, body)
        self._parameters(exchange)
        if exchange.decisions is not None:
            self._explain(exchange)

    async def with_body(self, exchange: Exchange) -> None:
        """And the body, which is kept so that it can still be sent on. Raises Failed."""
        self.with_parameters(exchange)
        if exchange.method in self._methods and exchange.decisions is None:
            self._check("body", self.body, await self._read(exchange), exchange)

    def _bound(self, exchange: Exchange, body: RequestBody) -> None:
        most, length = self._most, body.length
        if length is not None and length > most:
            self._refuse(
                exchange, Failure.BODY_TOO_LARGE, f"The request's body may have at most {most} bytes.", why=f"{length} bytes"
            )
        if body.limit is None or body.limit > most:
            body.limit = most
        if self._types is not None:
            given = _field(exchange, "Content-Type")
            if not self._types.fullmatch(_media_type(given)):
                self._unsupported(exchange, "Content-Type", given, self._accept)

    def _parameters(self, exchange: Exchange) -> None:
        if self.path is not None:
            self._check_strings("path", self.path, {name: [value] for name, value in exchange.params.items()}, exchange)
        if self.query is not None:
            try:
                strings = parsed(exchange.query)
            except ValueError:
                self._refuse(exchange, Failure.MALFORMED, "The query is not made of parameters in UTF-8.")
            self._check_strings("query", self.query, strings, exchange)

    def _check_strings(self, part: str, schema: Schema, strings: Strings, exchange: Exchange) -> None:
        self._check(part, schema, schema.typed(strings), exchange)

    def _check(self, part: str, schema: Schema | None, value: Any, exchange: Exchange) -> None:
        assert schema is not None
        try:
            errors = schema.errors(value)
        except UnicodeEncodeError:
            # Bytes that are no UTF-8 travel as surrogates (PEP 383); no schema can judge them.
            self._refuse(exchange, Failure.MALFORMED, f"The {part} is not UTF-8.")
        if errors:
            self._invalid(exchange, part, errors)

    async def _read(self, exchange: Exchange) -> Any:
        """The body's content. Raises Failed when there is none, or none that can be read."""
        body = exchange.body
        if body is None or body.length == 0:
            self._no_body(exchange)
        given = _field(exchange, "Content-Type")
        media_type = _media_type(given)
        is_form = media_type == _FORM
        if not is_form and media_type != "application/json" and not media_type.endswith("+json"):
            self._unsupported(exchange, "Content-Type", given, ((b"Accept", _READABLE.encode()),))
        charset = _CHARSET.search(given)
        if charset is not None and charset[1].lower() not in _UTF8:
            self._unsupported(exchange, "charset", charset[1], ())
        coding = _field(exchange, "Content-Encoding")
        if coding.lower() not in ("", "identity"):
            # RFC 9110 section 15.5.16: says which codings would have been understood.
            self._unsupported(exchange, "Content-Encoding", coding, ((b"Accept-Encoding", b"identity"),))
        data = await body.whole(self._most)
        if not data:
            self._no_body(exchange)
        try:
            if is_form:
                assert self.body is not None
                return self.body.typed(parsed(data.decode()))
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            nested = " It nests too deeply." if "depth" in error.msg else ""
            detail = f"The body is not JSON: line {error.lineno}, column {error.colno}.{nested}"
            self._refuse(exchange, Failure.MALFORMED, detail, why=error.msg)
        except ValueError:
            self._refuse(exchange, Failure.MALFORMED, "The body is not a form in UTF-8.")

    def _no_body(self, exchange: Exchange) -> NoReturn:
        self._invalid(exchange, "body", [entry((), MISSING, "a body is required")])

    def _unsupported(self, exchange: Exchange, field: str, given: str, headers: tuple[Pair, ...]) -> NoReturn:
        detail = f"This {field} is not supported." if given else f"The {field} is missing."
        self._refuse(exchange, Failure.UNSUPPORTED_MEDIA_TYPE, detail, headers=headers, why=f"{field} {given[:100]!r}")

    def _invalid(self, exchange: Exchange, part: str, errors: list[Entry]) -> NoReturn:
        failure = Failure.MISSING_FIELD if is_missing(errors) else Failure.INVALID_FIELD
        first = f"{part}: {errors[0]['field']!r} {errors[0]['message']}"
        self._refuse(exchange, failure, f"The request's {part} is not as it must be.", errors=errors, why=first)

    def _refuse(self, exchange: Exchange, failure: Failure, detail: str, *, why: str = "", **more: Any) -> NoReturn:
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(self._name, "refused", why or detail))
        raise Failed(failure, detail, why=why, by=self._name, **more)

    def _explain(self, exchange: Exchange) -> None:
        assert exchange.decisions is not None
        schemas = ((part, getattr(self, part)) for part in ("path", "query"))
        checked = [f"{part} fits {schema.name}" for part, schema in schemas if schema is not None]
        if self.body is not None and exchange.method in self._methods:
            checked.append(f"body must fit {self.body.name}")
        checked.append(f"at most {self._most} bytes of body")
        exchange.decisions.append(Decision(self._name, "allowed", "; ".join(checked)))


def _field(exchange: Exchange, name: str) -> str:
    """All lines of a field: an origin may go by the second, so the first alone proves nothing."""
    return ", ".join(exchange.headers.getall(name, ()))


def _media_type(given: str) -> str:
    return given.partition(";")[0].strip().lower()


def _pattern(types: tuple[str, ...]) -> re.Pattern[str] | None:
    """What matches any of the media types; "*" takes any part of a name."""
    if not types:
        return None
    return re.compile("|".join(re.escape(one.lower()).replace(r"\*", "[^/]+") for one in types))
