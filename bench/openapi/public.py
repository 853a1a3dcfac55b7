#!/usr/bin/env python3
"""Requests for public OpenAPI documents, judged here and by openapi-core.

    .venv/bin/python -m bench.openapi.public make DIR             # requests for DIR/*.json, to DIR/requests.txt
    /tmp/openapi-core/bin/python -m bench.openapi.public judge DIR     # openapi-core's verdicts (record.py)
    .venv/bin/python -m bench.openapi.public compare DIR          # where ours differ

Three requests for each operation: one as its schemas want it, two with something wrong, chosen at
random but the same every time.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

TEXTS = {
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "date": "2026-01-31",
    "date-time": "2026-01-31T10:00:00Z",
    "email": "a@example.com",
    "uri": "https://a.example/x",
}
WRONG: list[Any] = [[], {}, None, -7, "zz", True]
CHANCE = random.Random(7)


def resolved(document: Any, part: Any) -> Any:
    while isinstance(part, dict) and isinstance(part.get("$ref"), str):
        part = document.at(part["$ref"])
    return part if isinstance(part, dict) else {}


def sample(document: Any, schema: Any, depth: int = 0) -> Any:
    """A value that a schema wants, mostly; None where that is hard to find."""
    schema = resolved(document, schema)
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("oneOf", "anyOf"):
        if schema.get(word):
            return sample(document, schema[word][0], depth + 1)
    if schema.get("allOf"):
        parts = [sample(document, one, depth + 1) for one in schema["allOf"]]
        objects = [one for one in parts if isinstance(one, dict)]
        return {key: value for one in objects for key, value in one.items()} or parts[-1]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        needed = schema.get("required", ())
        return {
            name: sample(document, below, depth + 1)
            for name, below in schema.get("properties", {}).items()
            if (name in needed or (depth < 1 and CHANCE.random() < 0.4))
            and depth < 6
            and not resolved(document, below).get("readOnly")
        }
    if kind == "array":
        return [sample(document, schema.get("items", {}), depth + 1)] if depth < 6 else []
    if kind in ("integer", "number"):
        return max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return True
    if "pattern" in schema:
        return None
    return TEXTS.get(schema.get("format", ""), "x" * max(1, schema.get("minLength", 1)))


def mutated(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return CHANCE.choice(WRONG)
    made = dict(value)
    name = CHANCE.choice(sorted(made))
    if CHANCE.random() < 0.4:
        del made[name]
    else:
        made[name] = CHANCE.choice(WRONG)
    return made


def text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def request(document: Any, operation: Any, fault: str) -> dict[str, Any] | None:
    """A request for an operation, with a `fault` in a "parameter", in the "body", or "" for none;
    None where that cannot be made."""
    parameters = [one for one, _ in operation.parameters]
    victim = CHANCE.choice(parameters)["name"] if parameters and fault == "parameter" else None
    path, query, headers = operation.path, [], []
    for one in parameters:
        name, value = one["name"], sample(document, one.get("schema", {}))
        if value is None or isinstance(value, dict):
            continue
        if name == victim:
            value = CHANCE.choice(["zz", "-7", "1.5", "true"])
        elif one["in"] != "path" and not one.get("required") and CHANCE.random() < 0.5:
            continue
        values = [text(item) for item in (value if isinstance(value, list) else [value])]
        if one["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(",".join(values), safe=""))
        elif one["in"] == "header":
            headers.append((name, ",".join(values)))
        elif one["in"] == "query" and one.get("explode", True):
            query += [f"{quote(name, safe='')}={quote(item)}" for item in values]
        elif one["in"] == "query":
            query.append(f"{quote(name, safe='')}={','.join(map(quote, values))}")
    if "{" in path or "#" in path:
        return None
    body = None
    if operation.body is not None:
        media_type, said = next(iter(operation.body[0]["content"].items()))
        value = sample(document, said.get("schema", {}))
        value = mutated(value) if fault == "body" else value
        if media_type.endswith("json"):
            body = json.dumps(value)
        elif "urlencoded" in media_type and isinstance(value, dict):
            pairs = [
                (name, one)
                for name, given in value.items()
                for one in (given if isinstance(given, list) else [given])
                if not isinstance(one, dict | list)
            ]
            body = "&".join(f"{quote(name)}={quote(text(one))}" for name, one in pairs)
        else:
            return None
        headers.append(("Content-Type", media_type))
    target = path + ("?" + "&".join(query) if query else "")
    return {"method": operation.method, "target": target, "headers": headers, "body": body}


def make(directory: Path) -> None:
    from gateway.config.openapi.document import document, operations

    found = []
    for path in sorted(directory.glob("*.json")):
        made = document(path.read_bytes(), path.name)
        for operation in operations(made):
            for fault in ("", "parameter", "body"):
                case = request(made, operation, fault)
                if case is not None:
                    found.append({"document": path.name, "at": operation.pointer, **case})
    (directory / "requests.txt").write_text("\n".join(map(json.dumps, found)))
    print(f"{len(found)} requests")


def listed(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "requests.txt").read_text().splitlines()]


def judge(directory: Path) -> None:
    from openapi_core import OpenAPI

    from bench.openapi.record import Case, verdict

    apis: dict[str, Any] = {}
    verdicts = []
    for one in listed(directory):
        name = one["document"]
        if name not in apis:
            text = json.loads((directory / name).read_text())
            apis[name] = OpenAPI.from_dict({**text, "servers": [{"url": "/"}]})
        headers = tuple((key, value) for key, value in one["headers"])
        case = Case(name, one["method"], one["target"], headers, one["body"])
        verdicts.append(verdict(apis[name], case))
    (directory / "verdicts.txt").write_text("\n".join(map(json.dumps, verdicts)))
    print(f"{len(verdicts)} verdicts, {verdicts.count('')} of them right")


async def ours(case: dict[str, Any], hook: Any, params: dict[str, str]) -> str:
    from gateway.core.failures import Failed
    from tests.exchange import Body, exchange

    headers = [(name, value) for name, value in case["headers"]]
    asked = exchange(case["method"], case["target"], headers, params=params)
    if case["body"] is not None:
        asked.body = Body(case["body"].encode(), len(case["body"].encode()))
    try:
        pending = hook(asked)
        if pending is not None:
            await pending
    except Failed as failed:
        return f"{failed.failure.reason} {failed.errors}"
    return ""


async def compare(directory: Path) -> None:
    from gateway.config.check.paths import decoded
    from gateway.config.openapi.document import document, operations
    from gateway.middlewares import validation
    from gateway.middlewares.validation.config import ValidationConfig
    from tests.exchange import World

    world = World()
    hooks: dict[tuple[str, str], Any] = {}
    for path in directory.glob("*.json"):
        for operation in operations(document(path.read_bytes(), path.name)):
            built = validation.build(
                ValidationConfig(operation=operation), world.context("validation")
            )
            hooks[path.name, operation.pointer] = SimpleNamespace(
                hook=built.request, path=operation.path
            )
    same = 0
    verdicts = map(json.loads, (directory / "verdicts.txt").read_text().splitlines())
    for case, theirs in zip(listed(directory), verdicts, strict=True):
        known = hooks[case["document"], case["at"]]
        parts = zip(known.path.split("/"), case["target"].partition("?")[0].split("/"), strict=True)
        params = {name[1:-1]: decoded(value) for name, value in parts if name[:1] == "{"}
        mine = await ours(case, known.hook, params)
        if bool(mine) == bool(theirs):
            same += 1
        else:
            print(case["document"], case["method"], case["target"], f"\n  {mine}\n  {theirs}")
    print(f"{same} the same")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    command, where = sys.argv[1], Path(sys.argv[2])
    if command == "compare":
        asyncio.run(compare(where))
    else:
        {"make": make, "judge": judge}[command](where)
