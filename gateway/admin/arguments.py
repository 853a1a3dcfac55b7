"""What an endpoint's query and body must be: parsed by webargs into what the endpoint's table says.

What does not fit is answered 422, with a line that names the fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA
from webargs.aiohttpparser import AIOHTTPParser
from webargs.core import missing

QUERY = web.RequestKey("query", dict[str, Any])
BODY = web.RequestKey("body", dict[str, Any])


class Unusable(web.HTTPClientError):
    """Arguments that do not fit, as a problem of its own kind; `text` says what is wrong."""

    status_code = 422


class _Parser(AIOHTTPParser):
    """Takes JSON whatever Content-Type says: curl's -d says it is a form."""

    async def load_json(self, req: web.Request, schema: Schema) -> Any:
        data = await req.read()
        if not data:
            return missing
        try:
            return orjson.loads(data)
        except ValueError as error:
            raise ValidationError(f"The body is not JSON: {error}.") from None

    def handle_error(
        self,
        error: ValidationError,
        req: web.Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        said = error.messages_dict
        raise Unusable(text="; ".join(line for part in said.values() for line in faults(part)))


_PARSER = _Parser()


async def parse(
    request: web.Request, query: type[Schema] | None, body: type[Schema] | None
) -> None:
    """Put the arguments of a request where its handler finds them. Raises Unusable."""
    if query is not None:
        request[QUERY] = await _PARSER.parse(query(), request, location="query")
    if body is not None:
        request[BODY] = await _PARSER.parse(body(), request, location="json")


def faults(found: Any, name: str = "") -> Iterator[str]:
    """Yield what is wrong with which field, a line each."""
    if isinstance(found, Mapping):
        for key, part in found.items():
            yield from faults(part, "" if key == SCHEMA else f"{name}.{key}" if name else str(key))
        return
    texts = found if isinstance(found, list) else [found]
    yield f"{name and f'{name}: '}{' '.join(map(str, texts))}"
