"""`gateway run`: the process around one gateway."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from pathlib import Path

from aiohttp import http_parser

from gateway.app import Gateway
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime import processlog
from gateway.lifetime.notify import ServiceManager
from gateway.lifetime.signals import Signals
from gateway.lifetime.sockets import Sockets

log = logging.getLogger("gateway")

FILES = 1024 * 1024
"""Open files that are enough for one process."""


def raise_file_limit() -> int:
    """Let the process open as many files as it may, since every connection is one. Return how
    many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError) as error:
            log.warning("cannot open more than %d files: %s", soft, error)
            return soft
        return most
    return soft if soft != resource.RLIM_INFINITY else most


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop if it is installed. Warn of missing packages that cost speed."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        log.warning(
            "aiohttp runs without its C parser: requests cost several times as much; install "
            "it "
            "from a wheel"
        )
    try:
        import uvloop
    except ImportError:
        log.warning("uvloop is missing: requests cost about twice as much; install uvloop")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(path: Path, signals: Signals, output: processlog.ProcessLog) -> None:
    """Run one gateway whose log is that of the process. Raises ConfigErrors or OSError."""
    pid = os.getpid()
    manager = ServiceManager.from_environ(os.environ, pid)
    gateway = Gateway(path, os.environ, manager, Sockets.from_environ(os.environ, pid))
    gateway.process_log = output
    await gateway.run(signals)


def run(path: Path, signals: Signals) -> int:
    """Run until a stop. Return 0 after a clean one, 1 if the configuration or an address is bad."""
    output = processlog.install()
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(path, signals, output))
    except ConfigErrors as errors:
        for problem in errors.problems:
            output.say(str(problem))
        return 1
    except OSError as error:
        output.say(f"gateway: cannot start: {error.strerror or error}")
        return 1
    return 0
