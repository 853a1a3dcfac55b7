#!/usr/bin/env python3
"""Random schemas and hostile bodies: how long the loop stands, and how much memory a body takes.

A stand is counted in the CPU time of the loop's thread between two turns, so that neighbours on the
machine do not count.

.venv/bin/python bench/bodies.py [SCHEMAS] [SEED]      100 schemas take about four minutes
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import thread_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.core.failures import Failed
from gateway.middlewares import validation
from gateway.middlewares.validation.judge import Judge
from tests.exchange import Body, World, exchange

MEGABYTE = 1_000_000
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def schemas(chance: random.Random, depth: int = 0) -> Any:
    """One schema; deeper ones are simpler."""
    kinds: list[Any] = [
        {"type": "integer", "minimum": 1, "multipleOf": 3},
        {"type": "string", "pattern": "^(a|aa)+(?=x)$", "maxLength": 50},
        {"enum": [f"value {number}" for number in range(3000)]},
        {"type": "string", "format": "email"},
        {"const": {"a": [1, 2, 3]}},
    ]
    if depth < 4:
        below = [schemas(chance, depth + 1) for _ in range(3)]
        kinds += [
            {"type": "array", "items": below[0], "uniqueItems": chance.random() < 0.5},
            {"type": "array", "prefixItems": below, "contains": below[1]},
            {
                "type": "object",
                "properties": dict(zip("abc", below, strict=True)),
                "additionalProperties": below[0],
            },
            {
                "type": "object",
                "patternProperties": {"^a+": below[0]},
                "additionalProperties": False,
                "required": ["z"],
            },
            {"anyOf": below},
            {"oneOf": below},
            {"not": below[0]},
            {"if": below[0], "then": below[1], "else": below[2]},
            {"type": "array", "items": {"$ref": "#"}},
            {"propertyNames": {"pattern": "^[a-z]{1,3}$"}},
        ] * 2
    return chance.choice(kinds)


def bodies(chance: random.Random) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Bodies of 32 kB, 200 kB and 1 MB, of each hostile kind."""
    for size in (32_000, 200_000, MEGABYTE):
        for name, piece in (
            ("empty strings", b'""'), ("integers", b"1"), ("objects", b"{}"), ("arrays", b"[]"), ("nulls", b"null"),
            ("pairs", b'{"a":1}'), ("letters", b'"%b"' % (b"a" * 40)), ("big numbers", b"12345678901234567890"),
        ):  # fmt: skip
            yield name, JSON, b"[" + b",".join([piece] * (size // (len(piece) + 1))) + b"]"
        names = (b'"%x":%d' % (number, number) for number in range(size // 12))
        yield "members", JSON, b"{" + b",".join(names) + b"}"
        yield "deep", JSON, b"[" * (size // 2) + b"]" * (size // 2)
        yield "sixty deep", JSON, b"[" * 60 + b"1" + b"]" * 60
        yield "one string", JSON, b'"' + b"a" * size + b'"'
        yield "one escaped string", JSON, b'"' + b"\\u0061" * (size // 6) + b'"'
        yield "form", FORM, b"a=" + b"%41" * (size // 3)
        yield "fields", FORM, b"&".join([b"a=1"] * (size // 4))


async def main(count: int, seed: int) -> int:
    chance = random.Random(seed)
    world = World(Path(tempfile.mkdtemp()))
    worst: list[tuple[float, str]] = []
    stalls, done = [0.0], False

    async def tick() -> None:
        last = thread_time()
        while not done:
            await asyncio.sleep(0.001)
            now = thread_time()
            stalls[0] = max(stalls[0], now - last)
            last = now

    ticking = asyncio.ensure_future(tick())
    most_memory, judged = 0.0, 0
    for number in range(count):
        schema = schemas(chance)
        hooks = world.build(validation, {"body": {"schema": schema}})
        assert hooks.request is not None
        for name, headers, data in islice(bodies(chance), None):
            gc.collect()
            before = rss()
            await asyncio.sleep(0.002)  # What making the body took does not count.
            stalls[0] = 0.0
            asked = exchange("POST", "/", headers, route="r", body=Body(data, len(data)))
            try:
                await hooks.request(asked)  # type: ignore[misc]
            except Failed:
                pass
            await asyncio.sleep(0.002)
            judged += 1
            worst.append((stalls[0], f"schema {number}, {name} of {len(data)} bytes"))
            worst = sorted(worst, reverse=True)[:5]
            most_memory = max(most_memory, (rss() - before) / max(len(data), 200_000))
    done = True
    await ticking
    judge = world.draft.keep(("validation judge",), None, Judge)
    judge.close()
    for seconds, what in worst:
        print(f"{seconds * 1e3:6.1f} ms  {what}")
    print(f"{judged} bodies; resident memory rose by at most {most_memory:.1f} times a body")
    print(
        f"highest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, pid "
        f"{os.getpid()}"
    )
    return 0


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(asyncio.run(main(*(arguments + [100, 1][len(arguments) :]))))
