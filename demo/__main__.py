"""Starts sample services and the gateway with the shipped files, and prints lines that show what it
does. Ctrl-C ends it all.

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
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lines import Line, Scene, lines

ROOT = Path(__file__).resolve().parent.parent
SERVICES = {  # port in upstreams.toml: service and instance
    3001: ("cameras", "camera-1"),
    3002: ("cameras", "camera-2"),
    3003: ("cameras", "camera-3"),
    3011: ("accounts", "accounts-1"),
    3021: ("feed", "feed-1"),
}
GATEWAY, ADMIN = 8080, 9901
VICTIM = 3001
"""The heaviest instance: the one that is asked first while there is nothing else to do."""


class Trouble(Exception):
    """The demonstration cannot go on; the message says why and what to do."""


def free_ports(count: int) -> list[int]:
    """So many different ones; all are held until the last is found, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def choose_ports(anywhere: bool) -> dict[int, int]:
    """The port that stands in the shipped files -> the port to use."""
    wanted = [GATEWAY, ADMIN, *SERVICES]
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


def copy_configuration(folder: Path, ports: dict[int, int]) -> None:
    """The shipped files, with other ports where they have to be."""
    for name in ("pipelines", "schemas"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("gateway.toml", "upstreams.toml"):
        text = (ROOT / name).read_text("utf-8")
        for shipped, used in ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|port = ){shipped}\b", rf"\g<1>{used}", text)
        (folder / name).write_text(text, "utf-8")


def create_key(folder: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "gateway",
        "keys",
        "create",
        "--client",
        "demo",
        "--file",
        str(folder / "keys.toml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    key = re.search(r"bec_[0-9a-f]{64}", done.stdout)
    if done.returncode or key is None:
        raise Trouble(f"gateway keys create failed:\n{done.stdout}{done.stderr}")
    return key[0]


class Processes:
    """What was started, by port; ended in the order of `stop`, by process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, port: int, name: str, *command: str) -> None:
        """In a session of its own: Ctrl-C reaches this process only, which then ends the others one
        by one."""
        env = {
            **os.environ,
            "GATEWAY_KEYS": str(self.folder / "keys.toml"),
            "GATEWAY_ACCESS_LOG": str(self.folder / "access.log"),
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[port] = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )

    def wait(self, port: int, name: str, url: str, seconds: float = 20) -> None:
        """Until `url` answers with a status of success."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.running[port].poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        log = (self.folder / f"{name}.log").read_text("utf-8", "replace")
        raise Trouble(f"{name} did not become ready at {url}:\n{log[-4000:]}")

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(folder: Path, ports: dict[int, int]) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        for port, (service, name) in SERVICES.items():
            processes.start(
                port,
                name,
                str(ROOT / "demo/services.py"),
                service,
                "--name",
                name,
                "--port",
                str(ports[port]),
            )
        for port, (_, name) in SERVICES.items():
            processes.wait(port, name, f"http://127.0.0.1:{ports[port]}/health")
        processes.start(
            GATEWAY, "gateway", "-m", "gateway", "run", "--config", str(folder / "gateway.toml")
        )
        processes.wait(GATEWAY, "gateway", f"http://127.0.0.1:{ports[ADMIN]}/admin/ready")
        yield processes
    finally:
        processes.stop()


def scene_of(folder: Path, ports: dict[int, int], key: str, processes: Processes) -> Scene:
    here = Path.cwd()

    def shown(path: Path) -> str:
        relative = os.path.relpath(path, here)
        return str(path) if relative.startswith("..") else relative

    return Scene(
        gateway=f"http://127.0.0.1:{ports[GATEWAY]}",
        admin=f"http://127.0.0.1:{ports[ADMIN]}",
        key=key,
        pid=processes.running[GATEWAY].pid,
        camera_pid=processes.running[VICTIM].pid,
        folder=shown(folder),
        command=shown(ROOT / "bin/gateway"),
    )


def show(one: Line) -> None:
    print(f"\n# {one.shows}: {one.expect}\n{one.command}", flush=True)


def check(every: list[Line]) -> int:
    """Runs every line; how many did not do what they say."""
    failed = 0
    for one in every:
        show(one)
        output = one.run()
        missing = one.missing(output)
        failed += bool(missing)
        if missing:
            print(f"FAILED: no match for {missing} in\n{output}")
        else:
            print("ok")
    print(f"\n{len(every) - failed} passed, {failed} failed")
    return failed


def end(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def demonstrate(folder: Path, options: argparse.Namespace) -> int:
    ports = choose_ports(options.free_ports)
    copy_configuration(folder, ports)
    key = create_key(folder)
    with running(folder, ports) as processes:
        scene = scene_of(folder, ports, key, processes)
        if options.check:
            return 1 if check(lines(scene)) else 0
        print(
            f"The gateway is at {scene.gateway}, process {scene.pid}; configuration and logs "
            f"are "
            f"in {scene.folder}/."
        )
        print("Copy these into another terminal, in this order and from this directory:")
        for one in lines(scene):
            show(one)
        print("\nCtrl-C stops everything.", flush=True)
        status = processes.running[GATEWAY].wait()
        raise Trouble(f"the gateway ended with status {status}; see {scene.folder}/gateway.log")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bin/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    folder = (
        Path(tempfile.mkdtemp(prefix="gateway-demo-")) if options.free_ports else ROOT / ".demo"
    )
    try:
        if not options.free_ports:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return demonstrate(folder, options)
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
