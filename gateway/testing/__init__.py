"""What a plugin's own tests need: requests and replies without sockets, one middleware run over
them, and, as a plugin of pytest, a whole gateway with an origin (gateway.testing.plugin).

    async def test_it():
        reply = await run(build, {"word": "x"}, exchange("GET", "/a", {"X-Key": "k"}))
        assert reply.status == 200
"""

from gateway.testing.messages import Body, Stream, exchange, reply, whole_body
from gateway.testing.run import Clock, context, run

__all__ = ["Body", "Clock", "Stream", "context", "exchange", "reply", "run", "whole_body"]
