"""docs/middleware-tutorial.md, done as a reader does it: its files written, its commands run, their
output compared.

`<!-- file: NAME -->` names the block below it. In a `console` block, lines after "$ " are run and
the lines below them expected, with "..." for anything. Ports are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs import ports

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "middleware-tutorial.md"
EXAMPLE = ROOT / "examples" / "middleware" / "opening_hours.py"

BLOCK = re.compile(
    r"(?:^<!-- file: (?P<name>\S+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block; `name` is the file it is, "" for none."""

    kind: str
    name: str
    text: str


def blocks() -> list[Block]:
    return [
        Block(found["kind"], found["name"] or "", found["text"])
        for found in BLOCK.finditer(TUTORIAL.read_text("utf-8"))
    ]


def steps(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected output) of a console block."""
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        yield command, expected


def pattern(expected: str) -> str:
    return ".*".join(re.escape(part) for part in expected.strip().split("...")) + r"\s*"


@dataclass
class Reader:
    """Somebody with a shell in a directory, doing what the page says."""

    folder: Path
    replace: dict[str, str]
    env: dict[str, str]
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def follow(self, block: Block) -> None:
        text = block.text
        for old, new in self.replace.items():
            text = text.replace(old, new)
        if block.name:
            (self.folder / block.name).write_text(text, "utf-8")
        elif block.kind == "console":
            for command, expected in steps(text):
                self.run(command, expected)

    def run(self, command: str, expected: str) -> None:
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.env[name] = value
        elif command.endswith(" &"):
            self.start(command.removesuffix(" &"))
        else:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            output = done.stdout.replace("\r", "") + done.stderr
            assert re.fullmatch(pattern(expected), output, re.DOTALL), (
                f"$ {command}\n{output}\n-- expected:\n{expected}"
            )

    def start(self, command: str) -> None:
        with (self.folder / "background.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
            )
        self.background.append(process)
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.replace['9901']}/admin/ready", timeout=2
                ):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        pytest.fail((self.folder / "background.log").read_text())

    def stop(self) -> list[int]:
        for process in self.background:
            process.terminate()
        return [process.wait(30) for process in self.background]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, words in {
        "gateway": f"{sys.executable} -m gateway",
        "python": sys.executable,
    }.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (commands / name).chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    data, admin = ports.free(2)
    env = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    one = Reader(folder, {"8080": str(data), "9901": str(admin)}, env)
    yield one
    one.stop()


def test_a_reader_gets_what_the_page_says(reader: Reader) -> None:
    for block in blocks():
        reader.follow(block)
    assert reader.stop() == [0]


def test_it_shows_the_example_as_it_is() -> None:
    (shown,) = [block.text for block in blocks() if block.name == EXAMPLE.name]
    assert shown == EXAMPLE.read_text("utf-8")


def test_every_file_block_is_used() -> None:
    """A block without a name is not a file: the last one, about installing, and nothing else."""
    unnamed = [block for block in blocks() if not block.name and block.kind != "console"]
    assert [block.kind for block in unnamed] == ["toml"]


@pytest.mark.parametrize(
    ("expected", "output", "matches"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("...\n", "a\nb\n", True),
        ("1 passed in ...", "1 passed in 2 s\n", True),
    ],
)
def test_comparing(expected: str, output: str, matches: bool) -> None:
    assert bool(re.fullmatch(pattern(expected), output, re.DOTALL)) is matches
