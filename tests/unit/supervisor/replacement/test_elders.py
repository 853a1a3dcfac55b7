"""What becomes of what workers of the program before needed."""

from __future__ import annotations

import os
import socket

from gateway.supervisor.replacement.elders import Elders
from gateway.supervisor.replacement.handover import Handover


async def test_without_any_that_serve_what_they_were_forked_from_ends_as_well():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    handover = Handover(zygotes=[(ours.detach(), os.getpid())])
    elders = Elders(handover, lambda listener, accepted: None)
    elders.start({})
    await elders.leave()
    assert theirs.recv(1) == b""
    theirs.close()
