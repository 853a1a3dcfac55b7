"""A real gateway process for tests: started from TOML, spoken to over sockets, told what to do by
signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """`python -m gateway run` on a configuration whose [listen] and [admin] ports are 0."""

    def __init__(self, config: Path, **environ: str) -> None:
        self.config = config
        self.environ = environ
        self.port = self.admin_port = 0
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "run", "--config", str(self.config),
            cwd=ROOT, env={**os.environ, **self.environ}, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        line = await self.logged(r"serves on .*:(\d+), admin on .*:(\d+)")
        match = re.search(r"serves on .*:(\d+), admin on .*:(\d+),", line)
        assert match is not None
        self.port, self.admin_port = int(match[1]), int(match[2])
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None and self._reader is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 15)
            except TimeoutError:
                self._process.kill()
        await self._process.wait()
        await self._reader

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Waits for the process to end by itself; its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 30)

    async def logged(self, pattern: str, after: int = 0, seconds: float = 20) -> str:
        """Waits until a line of the log (from number `after` on) matches; returns it."""
        async with asyncio.timeout(seconds):
            async with self._changed:
                while True:
                    for line in self.lines[after:]:
                        if re.search(pattern, line):
                            return line
                    if self._reader is not None and self._reader.done():
                        raise AssertionError("the gateway ended:\n" + "\n".join(self.lines))
                    await self._changed.wait()

    async def _read(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        while line := await self._process.stderr.readline():
            async with self._changed:
                self.lines.append(line.decode().rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def reload(self) -> str:
        """SIGHUP; the log line that says what came of it."""
        after = len(self.lines)
        self.signal(signal.SIGHUP)
        return await self.logged(r"reload (taken|refused|failed)", after)

    async def metric(self, name: str, /, **labels: str) -> float | None:
        """One sample from /metrics."""
        text = await asyncio.to_thread(self._scrape)
        for line in text.splitlines():
            if (
                line.startswith(name)
                and line[len(name)] in " {"
                and all(f'{key}="{value}"' in line for key, value in labels.items())
            ):
                return float(line.rsplit(" ", 1)[1])
        return None

    def _scrape(self) -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10
        ) as answer:
            return str(answer.read().decode())

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
