#!/usr/bin/env python3
"""What `transform` adds to a request, in microseconds of CPU, without sockets.

    .venv/bin/python -m bench.transform

Header fields in both directions, with fixed values and with values of the request, and a JSON body
of 1 kB that gets a member.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

from gateway.core.exchange import Identity, Reply
from gateway.middlewares import transform
from tests.exchange import Body, World, exchange

FIXED = {"set": {"Pragma": "no-cache", "Expires": "0", "X-XSS-Protection": "1; mode=block"}}
ANN = Identity("partner", "jwt", tier="pro")
JSON = ((b"Content-Type", b"application/json"),)
DATA = b'{"data": [' + b",".join([b'{"id": 1, "name": "camera"}'] * 36) + b"]}"


def best(run: Callable[[], Any], times: int, rounds: int = 7) -> float:
    """The fewest microseconds of a call."""
    found = []
    for _ in range(rounds):
        begun = process_time()
        for _ in range(times):
            run()
        found.append((process_time() - begun) / times * 1e6)
    return min(found)


def finish(awaitable: Any) -> None:
    """Run what has nothing to wait for."""
    try:
        awaitable.send(None)
    except StopIteration:
        pass


def main() -> None:
    sent = exchange(headers={"Accept": "*/*", "User-Agent": "x"}, identity=ANN)
    got = Reply(200, (*JSON, (b"Server", b"x"), (b"ETag", b'"1"')), b"{}")

    def request(table: dict[str, Any]) -> Callable[[], Any]:
        hook: Any = World().build(transform, {"request": table}).request

        def run() -> None:
            sent.forward_headers = sent.drop_headers = None
            hook(sent)

        return run

    def response(table: dict[str, Any]) -> Callable[[], Any]:
        hook: Any = World().build(transform, {"response": table}).response

        def run() -> None:
            reply = Reply.known(200, got.headers.copy(), got.index.copy(), None, 2)
            hook(sent, reply)

        return run

    copied = best(lambda: Reply.known(200, got.headers.copy(), got.index.copy(), None, 2), 100_000)
    print(f"request, fixed     {best(request(FIXED), 100_000):6.2f}")
    print(f"request, {{client}}  {best(request({'set': {'X-Tenant': '{client}'}}), 100_000):6.2f}")
    print(f"response, fixed    {best(response(FIXED), 100_000) - copied:6.2f}")
    print(
        f"response, replaced {best(response({'set': {'Server': 'edge'}}), 100_000) - copied:6.2f}"
    )
    change = {"body": {"set": {"tenant": "{client}"}}}
    asked: Any = World().build(transform, {"request": change}).request
    answered: Any = World().build(transform, {"response": change}).response
    posted = exchange("POST", "/", {"Content-Type": "application/json"}, identity=ANN)

    def with_body() -> None:
        posted.body = Body(DATA)
        finish(asked(posted))

    print(f"request, 1 kB      {best(with_body, 10_000):6.2f}")
    whole = best(lambda: finish(answered(sent, Reply(200, JSON, DATA))), 10_000)
    print(f"response, 1 kB     {whole:6.2f}")


if __name__ == "__main__":
    main()
