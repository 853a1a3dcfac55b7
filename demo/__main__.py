"""Starts sample services and a gateway, and prints lines that show what it does.

Ctrl-C ends it all.

Without --system it is the gateway with the shipped files; with it, one of the systems in examples/.
The files are copied to .demo/ first, anew at every start, so that the lines may change them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from system import Line, System, fill, load, shell

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = {path.parent.name: path for path in sorted(ROOT.glob("examples/*/demo.toml"))}


class Trouble(Exception):
    """The demonstration cannot go on; the message says why and what to do."""


def free_ports(count: int) -> list[int]:
    """So many different ones; all are held until the last is found, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def choose_ports(wanted: list[int], anywhere: bool) -> dict[int, int]:
    """The port that stands in the files -> the port to use."""
    if anywhere:
        return dict(zip(wanted, free_ports(len(wanted)), strict=True))
    taken = []
    for port in wanted:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                taken.append(str(port))
    if taken:
        raise Trouble(
            f"in use: port {', '.join(taken)}. Stop what listens there, or use --free-ports."
        )
    return {port: port for port in wanted}


def copy_files(system: System, folder: Path, ports: dict[int, int]) -> None:
    """The system's files, with other ports where they have to be."""
    for name in system.files:
        source = system.home / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for path in folder.rglob("*.toml"):
        text = path.read_text("utf-8")
        for shipped, used in ports.items():
            text = re.sub(
                rf"((?:127\.0\.0\.1|localhost):|port = ){shipped}\b", rf"\g<1>{used}", text
            )
        path.write_text(text, "utf-8")


@dataclass
class Stage:
    """One run of a system: its folder, its ports, what was started, and what lines may name."""

    system: System
    folder: Path
    ports: dict[int, int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        relative = os.path.relpath(self.folder)
        self.values = {
            "folder": str(self.folder) if relative.startswith("..") else relative,
            "absolute": str(self.folder),
            "gateway": f"{self.system.scheme}://127.0.0.1:{self.ports[self.system.gateway]}",
            "admin": f"http://127.0.0.1:{self.ports[self.system.admin]}",
            "port": str(self.ports[self.system.gateway]),
            "redis": str(self.ports.get(self.system.redis, "")),
            "python": sys.executable,
            **{f"port:{one.name}": str(self.ports[one.port]) for one in self.system.services},
            "gateway-command": os.path.relpath(ROOT / "bin/gateway"),
        }

    @property
    def env(self) -> dict[str, str]:
        own = {name: fill(value, self.values) for name, value in self.system.env.items()}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own}

    def start(self, name: str, *command: str) -> None:
        """In a session of its own: Ctrl-C reaches this process only, which then ends the others one
        by one."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        self.values["pid" if name == "gateway" else f"pid:{name}"] = str(self.running[name].pid)

    def wait(self, name: str, answers: Iterable[bool], seconds: float = 30) -> None:
        """Until one of `answers` is true, each of which tries."""
        until = time.monotonic() + seconds
        for good in answers:
            if good:
                return
            if self.running[name].poll() is not None or time.monotonic() > until:
                break
            time.sleep(0.05)
        log = (self.folder / f"{name}.log").read_text("utf-8", "replace")
        raise Trouble(f"{name} did not become ready:\n{log[-4000:]}")

    def make(self) -> None:
        """Run what has to be there before the gateway starts."""
        for one in self.system.makes:
            output = shell(fill(one.command, self.values), self.env)
            found = re.search(one.pattern, output)
            if found is None:
                raise Trouble(f"{one.command} failed:\n{output}")
            if one.name:
                self.values[one.name] = found[0]

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answering(url: str) -> Iterator[bool]:
    """Whether `url` answers with a status of success, again and again."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                yield True
        except (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError):
            yield False


def listening(port: int) -> Iterator[bool]:
    """Whether something accepts connections, again and again."""
    while True:
        with socket.socket() as one:
            yield one.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(system: System, folder: Path, ports: dict[int, int]) -> Iterator[Stage]:
    stage = Stage(system, folder, ports)
    try:
        if system.redis:
            server = shutil.which("redis-server")
            if server is None:
                raise Trouble("this system needs a Redis: apt-get install redis-server")
            port = ports[system.redis]
            listen = ("--bind", "127.0.0.1", "--port", str(port))
            stage.start("redis", server, *listen, "--dir", str(folder), "--save", "")
            stage.wait("redis", listening(port))
        for one in system.services:
            script, *words = one.command
            options = ("--name", one.name, "--port", str(ports[one.port]))
            stage.start(one.name, sys.executable, str(system.home / script), *words, *options)
        for one in system.services:
            stage.wait(one.name, answering(f"http://127.0.0.1:{ports[one.port]}{one.ready}"))
        stage.make()
        config = str(folder / "gateway.toml")
        stage.start("gateway", sys.executable, "-m", "gateway", "run", "--config", config)
        stage.wait("gateway", answering(f"{stage.values['admin']}/admin/ready"))
        yield stage
    finally:
        stage.stop()


def show(one: Line) -> None:
    print(f"\n# {one.shows}: {one.expect}\n{one.command}", flush=True)


def check(every: list[Line]) -> int:
    """Runs every line; how many did not do what they say."""
    failed = 0
    for one in every:
        show(one)
        output = one.run()
        faults = one.faults(output)
        failed += bool(faults)
        print(f"FAILED: {'; '.join(faults)} in\n{output}" if faults else "ok", flush=True)
    print(f"\n{len(every) - failed} passed, {failed} failed")
    return failed


def end(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def demonstrate(system: System, folder: Path, options: argparse.Namespace) -> int:
    ports = choose_ports(system.ports, options.free_ports)
    copy_files(system, folder, ports)
    with running(system, folder, ports) as stage:
        lines = [one.filled(stage.values) for one in system.lines]
        if options.check:
            return 1 if check(lines) else 0
        print(
            f"The gateway is at {stage.values['gateway']}, process {stage.values['pid']}; "
            f"configuration and logs are in {stage.values['folder']}/."
        )
        print("Copy these into another terminal, in this order and from this directory:")
        for one in lines:
            show(one)
        print("\nCtrl-C stops everything.", flush=True)
        status = stage.running["gateway"].wait()
        raise Trouble(f"the gateway ended with status {status}; see {folder}/gateway.log")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bin/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=SYSTEMS, help="one of the systems in examples/")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run every printed line, tell whether it does what it says, and end",
    )
    parser.add_argument(
        "--free-ports",
        action="store_true",
        help="use ports that are free, and a temporary directory",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, end)
    system = load(SYSTEMS[options.system] if options.system else ROOT / "demo" / "demo.toml")
    folder = (
        Path(tempfile.mkdtemp(prefix="gateway-demo-"))
        if options.free_ports
        else ROOT / ".demo" / (options.system or "shipped")
    )
    try:
        if not options.free_ports:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return demonstrate(system, folder, options)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        if options.free_ports:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
