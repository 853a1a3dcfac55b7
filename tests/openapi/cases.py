"""Requests for the documents here: each with a name, so that a verdict can be told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).parent
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Case:
    """One request. `headers`: pairs."""

    document: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None

    @property
    def name(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.headers)
        return f"{self.document} {self.method} {self.target} {said} {self.body or ''}".strip()


INTEGERS = ["1", "0", "-1", "1.5", "1.0", "x", "", "01", "1e3", "101", "100", " 1", "true"]
PETS: list[object] = [
    {"name": "a"},
    {"name": ""},
    {"name": "x" * 11},
    {"name": 1},
    {"name": None},
    {},
    [],
    "a",
    None,
    1,
    {"name": "a", "age": 0},
    {"name": "a", "age": -1},
    {"name": "a", "age": 1.0},
    {"name": "a", "age": 1.5},
    {"name": "a", "age": "1"},
    {"name": "a", "age": True},
    {"name": "a", "tag": None},
    {"name": "a", "tag": 1},
    {"name": "a", "kind": "cat"},
    {"name": "a", "kind": "cow"},
    {"name": "a", "email": "a@example.com"},
    {"name": "a", "email": "nobody"},
    {"name": "a", "other": 1},
    {"name": "a", "friends": []},
    {"name": "a", "friends": [{"name": "b"}]},
    {"name": "a", "friends": [{"nom": "b"}]},
    {"name": "a", "friends": [{"name": "b"}] * 3},
    {"name": "a", "friends": [{"name": "b", "friends": [{"name": "c", "age": -1}]}]},
    {"name": "a", "friends": {}},
]
QUERIES = [
    *(f"limit={value}" for value in INTEGERS),
    *(f"ratio={value}" for value in (*INTEGERS, "0.5", "1e2", "-0.5", "0.0", "1.", ".5", "nan")),
    *(f"active={value}" for value in ("true", "false", "1", "yes", "TRUE", "")),
    *(f"sort={value}" for value in ("asc", "up", "", "ASC")),
    *(f"id={value}" for value in ("123e4567-e89b-12d3-a456-426614174000", "123", "")),
    *(
        f"day={value}"
        for value in ("2026-01-31", "2026-02-30", "31.1.2026", "2026-01-31T00:00:00Z")
    ),
    *(f"name={value}" for value in ("ab", "a", "abcdef", "AB", "a%62", "%C3%BC%C3%BC")),
    *(f"tags={value}" for value in ("a", "a&tags=b", "a&tags=b&tags=c&tags=d", "", "a,b,c,d")),
    *(f"ids={value}" for value in ("1", "1,2", "1,2,1", "1,x", "1%2C2")),
    *(f"pipes={value}" for value in ("1", "1%7C2", "1|2", "1|x")),
    *(f"spaces={value}" for value in ("1", "1%202", "1%20x")),
    "filter[age]=1",
    "filter[age]=x",
    "filter[name]=a",
    "filter[age]=1&filter[name]=a",
    "filter[age]=1&filter[other]=a",
    "point=x,1,y,2",
    "point=x,1",
    "point=x,a",
    "point=z,1",
    *(f"json={quote(value)}" for value in ('{"a": 1}', '{"a": "1"}', "{}", "{", "1", "")),
    "",
    "unknown=1",
    "limit=1&limit=2",
    "limit=500&limit=2",
]


def cases() -> Iterator[Case]:
    """Every request, over 300."""
    yield from _styles()
    yield from _old()


def _styles() -> Iterator[Case]:
    document = "styles.json"
    for value in INTEGERS:
        if value:
            yield Case(document, "GET", f"/simple/{quote(value)}")
            yield Case(document, "GET", f"/matrix/;id={quote(value)}")
    for value in ("1,2", "1", "1,x", "1,2,3", "a"):
        yield Case(document, "GET", f"/list/{value}")
    for value in (".1,2", ".1", ".x", ".1.2"):
        yield Case(document, "GET", f"/label/{value}")
    for query in QUERIES:
        yield Case(document, "GET", f"/query?{query}" if query else "/query")
    for one, other in product(("limit=5", "limit=0"), ("sort=asc", "sort=x", "tags=a", "ids=a")):
        yield Case(document, "GET", f"/query?{one}&{other}")
    for value in ("1", "x"):
        yield Case(document, "GET", f"/either?either={value}")
    for query in ("", "?q=", "?q=a", "?Q=a", "?q", "?p=a"):
        yield Case(document, "GET", f"/needed{query}")
    yield from _headers(document)
    for pet in PETS:
        for method in ("POST", "PATCH"):
            yield Case(document, method, "/pets", (("Content-Type", JSON),), json.dumps(pet))
    yield from _bodies(document)


def _headers(document: str) -> Iterator[Case]:
    tenant = ("X-Tenant", "acme")
    yield Case(document, "GET", "/headers")
    for value in ("a", "ab", ""):
        yield Case(document, "GET", "/headers", (("x-tenant", value),))
    for value in INTEGERS:
        yield Case(document, "GET", "/headers", (tenant, ("X-Count", value)))
        yield Case(document, "GET", "/headers", (tenant, ("Cookie", f"a=b; session={value}")))
    for value in ("1,2", "1, 2", "1", "1,x"):
        yield Case(document, "GET", "/headers", (tenant, ("X-Ids", value)))


def _bodies(document: str) -> Iterator[Case]:
    for kind, body in product(
        (JSON, "application/json; charset=utf-8", "text/plain", "application/xml", ""),
        ('{"name": "a"}', '{"name": 1}', "{", ""),
    ):
        headers = (("Content-Type", kind),) if kind else ()
        yield Case(document, "POST", "/pets", headers, body)
    for body in ("name=a", "name=", "age=1", "name=a&age=1", "name=a&age=x", "name=a&other=1", "name=a&ids=1",
                 "name=a&ids=1&ids=2", "name=a&ids=x"):  # fmt: skip
        yield Case(document, "POST", "/pets", (("Content-Type", FORM),), body)
    yield Case(document, "POST", "/pets")
    yield Case(document, "PATCH", "/pets")
    for kind in (JSON, "text/plain", "image/png"):
        yield Case(document, "PUT", "/any", (("Content-Type", kind),), '"x"')


def _old() -> Iterator[Case]:
    document = "old.yaml"
    for value in INTEGERS:
        if value:
            yield Case(document, "GET", f"/pets/{quote(value)}")
        yield Case(document, "GET", f"/pets/1?limit={quote(value)}")
    for value in ("2026-01-31T10:00:00Z", "2026-01-31", "x", "2026-01-31T10:00:00%2B02:00"):
        yield Case(document, "GET", f"/pets/1?since={value}")
    pets: list[object] = [
        {"name": "a"},
        {"id": 1, "name": "a"},
        {"id": 1},
        {"name": "a", "tag": None},
        {"name": "a", "tag": 1},
        {"name": None},
        {"name": "a", "kind": None},
        {"name": "a", "kind": "cow"},
        {"name": "a", "weight": 100},
        {"name": "a", "weight": 99.9},
        {"name": "a", "owner": None},
        {"name": "a", "owner": {"name": "b"}},
        {"name": "a", "owner": {}},
        {"name": "a", "more": 1},
        {"name": "a", "id": "x"},
        {"name": "a", "weight": -5},
        {"name": "a", "kind": "cat", "tag": "t", "owner": {"name": 1}},
        [],
        None,
    ]
    for pet in pets:
        yield Case(document, "PUT", "/pets/1", (("Content-Type", JSON),), json.dumps(pet))
