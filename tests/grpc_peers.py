"""grpcio at both ends of a gateway, each in a process of its own; messages are bytes, so nothing is
generated.

    python -m tests.grpc_peers serve             a server; prints its port
    python -m tests.grpc_peers call PORT [KEY]   all kinds of calls; prints what came of each as JSON
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "test.Echo"
LARGE = 4 * 2**20
OPTIONS = [
    ("grpc.max_receive_message_length", 2 * LARGE),
    ("grpc.max_send_message_length", 2 * LARGE),
]
SERVING = bytes([8, 1])


class Echo:
    """What the server does. `seen` counts calls by method, and cancellations."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def unary(self, message: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-sum", hashlib.sha256(message).hexdigest()),))
        context.send_initial_metadata((("x-own", metadata.get("x-own", "")),))
        return message

    def download(self, message: bytes, context: Any) -> Iterator[bytes]:
        count, size = map(int, message.split())
        for number in range(count):
            yield bytes([number % 256]) * size

    def upload(self, messages: Iterator[bytes], context: Any) -> bytes:
        return str(sum(len(message) for message in messages)).encode()

    def bidi(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from messages

    def fail(self, message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-more", "1"), ("x-more-bin", b"\0\1")))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "50% of résumés\nare not here")

    def fail_within(self, message: bytes, context: Any) -> Iterator[bytes]:
        yield message
        context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")

    def flaky(self, message: bytes, context: Any) -> bytes:
        """Unavailable at the first of two calls."""
        self.seen[f"flaky {message!r}"] += 1
        if self.seen[f"flaky {message!r}"] == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return message

    def slow(self, message: bytes, context: Any) -> bytes:
        """Over when it is cancelled, which is counted."""
        over = threading.Event()
        context.add_callback(over.set)
        self.seen["slow"] += 1
        over.wait(30)
        self.seen["cancelled"] += 1
        return b""

    def left(self, message: bytes, context: Any) -> bytes:
        """The seconds that the call has."""
        return str(context.time_remaining()).encode()

    def counts(self, message: bytes, context: Any) -> bytes:
        return json.dumps(self.seen).encode()


def serve() -> None:
    echo = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(16), options=OPTIONS)
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(echo.unary),
        "Download": grpc.unary_stream_rpc_method_handler(echo.download),
        "Upload": grpc.stream_unary_rpc_method_handler(echo.upload),
        "Bidi": grpc.stream_stream_rpc_method_handler(echo.bidi),
        "Fail": grpc.unary_unary_rpc_method_handler(echo.fail),
        "FailWithin": grpc.unary_stream_rpc_method_handler(echo.fail_within),
        "Flaky": grpc.unary_unary_rpc_method_handler(echo.flaky),
        "Slow": grpc.unary_unary_rpc_method_handler(echo.slow),
        "Left": grpc.unary_unary_rpc_method_handler(echo.left),
        "Counts": grpc.unary_unary_rpc_method_handler(echo.counts),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda message, context: SERVING)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # Until whoever started it is gone.
    server.stop(0)


class Caller:
    """All kinds of calls over one channel."""

    def __init__(self, port: int, key: str = "") -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self.metadata = [("x-api-key", key)] if key else []

    def unary(self, method: str) -> Any:
        return self.channel.unary_unary(f"/{SERVICE}/{method}")

    def call(self, message: bytes, method: str = "Unary", **more: Any) -> dict[str, Any]:
        """What came of a unary call."""
        metadata = [*self.metadata, *more.pop("metadata", ())]
        try:
            answer, call = self.unary(method).with_call(
                message, metadata=metadata, timeout=more.pop("timeout", 20)
            )
        except grpc.RpcError as error:
            return self.failed(error)
        own = dict(call.initial_metadata()).get("x-own")
        trailing = dict(call.trailing_metadata()).get("x-sum")
        return {"bytes": len(answer), "same": answer == message, "own": own, "sum": trailing}

    def failed(self, error: Any) -> dict[str, Any]:
        more = {
            name: value if isinstance(value, str) else value.hex()
            for name, value in error.trailing_metadata() or ()
            if name.startswith("x-more")
        }
        return {"code": error.code().name, "details": error.details(), **more}

    def streams(self) -> dict[str, Any]:
        """Both kinds of streams, alone and together."""
        channel, metadata = self.channel, self.metadata
        download = channel.unary_stream(f"/{SERVICE}/Download")
        upload = channel.stream_unary(f"/{SERVICE}/Upload")
        bidi = channel.stream_stream(f"/{SERVICE}/Bidi")
        within = channel.unary_stream(f"/{SERVICE}/FailWithin")
        sizes = [len(one) for one in download(b"200 10000", metadata=metadata, timeout=20)]
        sent = upload((bytes(10_000) for _ in range(200)), metadata=metadata, timeout=20)
        turns: list[bytes] = []
        heard = threading.Semaphore(1)

        def say() -> Iterator[bytes]:
            """Each message only when the answer to the one before is here."""
            for number in range(50):
                heard.acquire(timeout=20)
                yield str(number).encode()

        for answer in bidi(say(), metadata=metadata, timeout=20):
            turns.append(answer)
            heard.release()
        got: list[int] = []
        try:
            for answer in within(b"part", metadata=metadata, timeout=20):
                got.append(len(answer))  # noqa: PERF401 - those before the error count
        except grpc.RpcError as error:
            broken = self.failed(error)
        return {
            "download": [len(sizes), sum(sizes)],
            "upload": sent.decode(),
            "turns": b" ".join(turns).decode(),
            "within": [got, broken],
        }

    def cancelled(self) -> int:
        """How many calls the server has seen cancelled, once this one was."""
        before = self.counts()
        going = self.unary("Slow").future(b"", metadata=self.metadata, timeout=20)
        wait(lambda: self.counts().get("slow", 0) > before.get("slow", 0))
        going.cancel()
        wait(lambda: self.counts().get("cancelled", 0) > before.get("cancelled", 0))
        return 1

    def deadline(self) -> dict[str, Any]:
        before = self.counts()
        what = self.call(b"", "Slow", timeout=0.3)
        wait(lambda: self.counts().get("cancelled", 0) > before.get("cancelled", 0))
        left = float(self.unary("Left")(b"", metadata=self.metadata, timeout=100))
        return {"code": what["code"], "left": 50 < left < 101}

    def counts(self) -> dict[str, int]:
        return json.loads(  # type: ignore[no-any-return]
            self.unary("Counts")(b"", metadata=self.metadata, timeout=20)
        )

    def all(self) -> dict[str, Any]:
        return {
            "unary": self.call(b"hello", metadata=[("x-own", "mine")]),
            "empty": self.call(b""),
            "large": self.call(bytes(range(256)) * (LARGE // 256)),
            "fail": self.call(b"", "Fail"),
            "unknown": self.call(b"", "Nothing")["code"],
            **self.streams(),
            "cancelled": self.cancelled(),
            "deadline": self.deadline(),
            "many": self.many(),
        }

    def many(self) -> list[int]:
        """A hundred calls at a time."""
        going = [
            self.unary("Unary").future(bytes(number), metadata=self.metadata, timeout=20)
            for number in range(100)
        ]
        return [len(one.result()) for one in going]


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(Caller(int(sys.argv[2]), *sys.argv[3:4]).all()))
