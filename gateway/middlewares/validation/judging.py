"""The process that judge.py starts: judges one body after the other, from stdin to stdout."""

from __future__ import annotations

import resource
import signal
import sys
from typing import Any, BinaryIO

import orjson

from gateway.middlewares.validation.cleaning import Cleaning
from gateway.middlewares.validation.reading import body_of, most_members, value_of
from gateway.middlewares.validation.schemas import JsonSchema
from gateway.protocols.json_text import Bounds, Unreadable

MEMORY = 1024**3
"""Bytes of address space."""


def judged(schemas: dict[str, JsonSchema], payload: bytes) -> dict[str, Any]:
    """The answer to one message; remembers the schema that comes with it."""
    line, _, data = payload.partition(b"\n")
    about = orjson.loads(line)
    name = about["schema"]
    if "rules" in about:
        cleaning = Cleaning(**about["cleaning"])
        given = (about["rules"], name, about["base"], about["split"], cleaning)
        schemas[name] = JsonSchema(*given)
    schema, kind = schemas[name], about["kind"]
    try:
        value = value_of(data, kind, schema, Bounds(about["depth"], about["members"]))
        errors = schema.errors(value, most_members(data, kind))
        if about["rewrite"] and not errors:
            return {"errors": [], "body": body_of(value, kind, schema).decode()}
        return {"errors": errors}
    except Unreadable as error:
        return {"failure": error.failure.name, "detail": error.detail, "why": error.why}


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Until the gateway closes its end."""
    schemas: dict[str, JsonSchema] = {}
    sink.write(bytes(4))
    sink.flush()
    while len(size := source.read(4)) == 4:
        answer = orjson.dumps(judged(schemas, source.read(int.from_bytes(size, "big"))))
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


if __name__ == "__main__":
    # The gateway's terminal and supervisor signal the whole group; this process ends with its
    # stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The errors of a body may fill any memory; a process that dies of it is replaced.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    main(sys.stdin.buffer, sys.stdout.buffer)
