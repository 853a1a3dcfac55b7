"""docs/guides/first-gateway.md, done as a reader does it. "..." in what is shown stands for anything,
and `bec_...` in a command for the key that was shown before."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.docs.pages import ROOT, fenced
from tests.docs.test_tutorial import Reader, pattern, reader, steps

__all__ = ["reader"]

GUIDE = ROOT / "docs" / "guides" / "first-gateway.md"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[int]:
    """What the guide puts the gateway in front of; its port."""
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def run(reader: Reader, command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=reader.folder,
        env=reader.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.replace("\r", "") + done.stderr


def replaced(text: str, ports: dict[str, str]) -> str:
    for old, new in ports.items():
        text = text.replace(old, new)
    return text


def use_free_ports(reader: Reader) -> None:
    """Have the gateway that was made listen where this reader may."""
    file = reader.folder / "gateway.toml"
    file.write_text(replaced(file.read_text(), reader.replace))


def test_a_reader_gets_what_the_page_says(reader: Reader, service: int) -> None:
    reader.replace["3001"] = str(service)
    key = ""
    for command, expected in (
        step for block in fenced(GUIDE) if block.kind == "console" for step in steps(block.text)
    ):
        command = replaced(command, reader.replace).replace("bec_...", key)
        if command.endswith(" &"):
            reader.start(command.removesuffix(" &"))
            continue
        output = run(reader, command)
        shown = (
            expected if command.startswith("gateway init") else replaced(expected, reader.replace)
        )
        assert re.fullmatch(pattern(shown), output, re.DOTALL), f"$ {command}\n{output}--\n{shown}"
        if command.startswith("gateway init"):
            use_free_ports(reader)
        if found := re.search(r"bec_[0-9a-f]{64}", output):
            key = found[0]
    assert key
    assert reader.stop() == [0]
