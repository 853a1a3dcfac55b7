"""`gateway run`: the process around one gateway, or around the supervisor of several workers."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from gateway.app import Gateway
from gateway.commands.options import add_config
from gateway.config.check.compile import gateway_of
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime import processlog
from gateway.lifetime.notify import ServiceManager
from gateway.lifetime.process import new_event_loop, raise_file_limit, worker_count
from gateway.lifetime.signals import Signals
from gateway.lifetime.sockets import Sockets
from gateway.supervisor.replacement.handover import Handover


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    return serve(options.config, options.signals)


def serve(path: Path, signals: Signals) -> int:
    """Run until a stop. Return 0 after a clean one, 1 if the configuration or an address is bad."""
    zygote = None
    handover = Handover.take(os.environ)
    if _several(path):
        from gateway.supervisor.supervisor import Supervisor, start_zygote

        others = () if handover is None else handover.descriptors()
        zygote = start_zygote(path, os.environ, others)  # before there is a loop or a thread
    output = processlog.install()
    raise_file_limit()

    async def begin() -> None:
        pid = os.getpid()
        manager = ServiceManager.from_environ(os.environ, pid)
        sockets = Sockets.from_environ(os.environ, pid)
        if zygote is None:
            gateway = Gateway(path, os.environ, manager, sockets, handover)
        else:
            gateway = Supervisor(path, os.environ, zygote, manager, sockets, handover)
        gateway.process_log = output
        await gateway.run(signals)

    return _run(begin(), output)


def _run(serving: Coroutine[Any, Any, None], output: processlog.ProcessLog) -> int:
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serving)
    except ConfigErrors as errors:
        for problem in errors.problems:
            output.say(str(problem))
        return 1
    except OSError as error:
        output.say(f"gateway: cannot start: {error.strerror or error}")
        return 1
    return 0


def _several(path: Path) -> bool:
    """Return True if there are to be several workers. What is wrong is reported at the start."""
    try:
        # The usual gateway.toml does not mention them, and need not be read twice.
        if b"workers" not in path.read_bytes():
            return False
        return worker_count(gateway_of(path, os.environ).server) > 1
    except (OSError, ConfigErrors):
        return False
