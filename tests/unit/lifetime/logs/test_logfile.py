"""Every line is written once, whole and in order, off the loop; what a disk cannot take is counted,
not waited for."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.telemetry import log_lines_dropped
from gateway.lifetime.logs import logfile, logqueue
from gateway.lifetime.logs.logfile import LogFile
from gateway.lifetime.logs.logqueue import BATCH, finish
from tests.until import until

PATIENCE = 10.0


def number(record: tuple[Any, ...]) -> bytes:
    return b"%d\n" % record[1]


def append(file: LogFile, *numbers: int) -> None:
    for each in numbers:
        file.append((number, each))


def close(file: LogFile) -> None:
    file.close()
    assert file.wait(PATIENCE)


@pytest.fixture(autouse=True)
def only_mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[LogFile]]:
    """The files of a test, closed after it; others' are not its business."""
    mine: set[LogFile] = set()
    monkeypatch.setattr(logqueue, "_OPEN", mine)
    yield mine
    assert finish(PATIENCE)
    for file in tuple(mine):
        file.close()


class Disk:
    """Stands in for os.write: each call does what the next entry of `script` says, then everything
    is taken."""

    def __init__(self, *script: int | OSError | Callable[[], object]) -> None:
        self.script = list(script)
        self.taken = b""
        self.descriptors: list[int] = []

    def write(self, descriptor: int, data: bytes) -> int:
        self.descriptors.append(descriptor)
        step = self.script.pop(0) if self.script else len(data)
        if isinstance(step, OSError):
            raise step
        if not isinstance(step, int):
            step()
            step = len(data)
        self.taken += bytes(data[:step])
        return step


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Disk]:
    def install(*script: int | OSError | Callable[[], object]) -> Disk:
        made = Disk(*script)
        monkeypatch.setattr(os, "write", made.write)
        return made

    return install


# Writing.


async def test_nothing_is_written_before_the_interval_ends(tmp_path: Path):
    file = LogFile(tmp_path / "log", interval=3600)
    append(file, 1, 2)
    await asyncio.sleep(0)
    assert not file.started
    close(file)
    assert file.path is not None and file.path.read_bytes() == b"1\n2\n"


async def test_the_interval_writes_and_starts_anew_with_the_next_line(tmp_path: Path):
    file = LogFile(tmp_path / "log", interval=0.001)
    append(file, 1)
    await until(lambda: (tmp_path / "log").read_bytes() == b"1\n")
    append(file, 2)
    await until(lambda: (tmp_path / "log").read_bytes() == b"1\n2\n")


async def test_lines_wait_while_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    start, failing = threading.Thread.start, [RuntimeError("can't start new thread")] * 2

    def starting(thread: threading.Thread) -> None:
        if failing:
            raise failing.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    file = LogFile(tmp_path / "log", interval=0.001)
    for each in range(3):
        before = len(failing)
        append(file, each)
        await until(
            lambda before=before: len(failing) < before or (tmp_path / "log").stat().st_size > 0
        )
    await until(lambda: (tmp_path / "log").read_bytes() == b"0\n1\n2\n")
    close(file)


async def test_a_full_batch_is_encoded_after_the_turn_and_written_when_it_is_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoded = []

    def encode(record: tuple[Any, ...]) -> bytes:
        encoded.append(record[1])
        return b"x\n"

    monkeypatch.setattr(logqueue, "CHUNK", 2 * BATCH * 2)
    file = LogFile(tmp_path / "log", interval=3600)
    for each in range(BATCH):
        file.append((encode, each))
    assert encoded == []
    await asyncio.sleep(0)
    assert encoded == list(range(BATCH))
    assert not file.started
    for each in range(BATCH + 1):
        file.append((encode, each))
    await until(lambda: (tmp_path / "log").stat().st_size == 2 * (2 * BATCH + 1))


async def test_appends_to_what_is_there(tmp_path: Path):
    (tmp_path / "log").write_bytes(b"0\n")
    file = LogFile(tmp_path / "log")
    append(file, 1)
    close(file)
    assert (tmp_path / "log").read_bytes() == b"0\n1\n"


def test_a_file_it_makes_is_not_for_everybody(tmp_path: Path):
    LogFile(tmp_path / "log").close()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


async def test_none_is_standard_output(disk: Callable[..., Disk]):
    taken = disk()
    file = LogFile()
    append(file, 1)
    assert "standard output" in repr(file) or file.name == "standard output"
    file.reopen()
    append(file, 2)
    close(file)
    assert taken.taken == b"1\n2\n"
    assert set(taken.descriptors) == {1}


async def test_lines_after_close_are_dropped(tmp_path: Path):
    file = LogFile(tmp_path / "log", interval=3600)
    close(file)
    file.close()
    append(file, 1)
    file.flush()
    file.reopen()
    assert file.dropped == 1
    assert (tmp_path / "log").read_bytes() == b""
    assert repr(file) == f"<LogFile {tmp_path}/log waiting=0 dropped=1 closed>"


async def test_a_record_that_cannot_be_encoded_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = LogFile(tmp_path / "log")
    append(file, 1)
    file.append((lambda record: b"%d" % record[1], "no number"))
    append(file, 2)
    close(file)
    assert (tmp_path / "log").read_bytes() == b"1\n2\n"
    assert file.dropped == 1
    assert "cannot encode a line" in caplog.text


# Opening.


@pytest.mark.parametrize(
    ("where", "number"),
    [("missing/log", errno.ENOENT), ("", errno.EISDIR)],
    ids=["no such directory", "a directory"],
)
def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path, where: str, number: int):
    with pytest.raises(OSError) as caught:
        LogFile(tmp_path / where)
    assert caught.value.errno == number


def test_a_named_pipe_that_nobody_reads_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as caught:
        LogFile(tmp_path / "pipe")
    assert caught.value.errno == errno.ENXIO


async def test_a_named_pipe_is_written_like_a_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = LogFile(tmp_path / "pipe")
        assert os.get_blocking(file._descriptor)
        append(file, 1)
        close(file)
        assert os.read(reader, 10) == b"1\n"
    finally:
        os.close(reader)


# Rotation.


@pytest.mark.parametrize("started", [False, True])
async def test_reopen_goes_on_in_a_new_file(tmp_path: Path, started: bool):
    file = LogFile(tmp_path / "log")
    if started:
        append(file, 1)
    (tmp_path / "log").rename(tmp_path / "log.1")
    file.reopen()
    append(file, 2)
    close(file)
    assert (tmp_path / "log.1").read_bytes() == (b"1\n" if started else b"")
    assert (tmp_path / "log").read_bytes() == b"2\n"


async def test_reopen_that_fails_goes_on_with_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "logs").mkdir()
    file = LogFile(tmp_path / "logs" / "log")
    append(file, 1)
    (tmp_path / "logs").rename(tmp_path / "old")
    file.reopen()
    append(file, 2)
    close(file)
    assert (tmp_path / "old" / "log").read_bytes() == b"1\n2\n"
    assert "cannot reopen" in caplog.text


async def test_descriptors_are_not_leaked(tmp_path: Path):
    before = len(os.listdir("/proc/self/fd"))
    for each in range(5):
        file = LogFile(tmp_path / "log")
        append(file, each)
        file.reopen()
        close(file)
    assert len(os.listdir("/proc/self/fd")) <= before


# A disk that is slow, full, or gone.


async def test_a_stuck_disk_costs_lines_and_not_time(
    disk: Callable[..., Disk], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    entered, release = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        assert release.wait(PATIENCE)

    taken = disk(stuck)
    file = LogFile(tmp_path / "log", interval=3600, backlog=4)
    append(file, 1)
    file.flush()
    assert await asyncio.to_thread(entered.wait, PATIENCE)
    append(file, 20)
    file.flush()
    append(file, 30, 40)
    file.flush()
    assert file.dropped == 2
    assert "waiting=5 dropped=2" in repr(file)
    release.set()
    await until(lambda: file._written == 5)
    append(file, 50)
    close(file)
    assert taken.taken == b"1\n20\n50\n"
    assert "goes on after 2 dropped lines" in caplog.text


async def test_a_full_disk_is_told_once_and_survived(
    disk: Callable[..., Disk], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    full = OSError(errno.ENOSPC, "No space left on device")
    taken = disk(full, full)
    file = LogFile(tmp_path / "log")
    for each in range(4):
        append(file, each, each)
        file.flush()
    close(file)
    assert taken.taken == b"2\n2\n3\n3\n"
    assert file.dropped == 4 == log_lines_dropped.get((file.name, "failed"))
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        f"cannot write to {tmp_path}/log, lines are dropped: [Errno 28] No space left on device",
        f"{tmp_path}/log goes on after 4 dropped lines",
    ]


@pytest.mark.parametrize(
    ("script", "written", "dropped"),
    [
        ([4, "full"], b"10\n2\n40\n50\n", 2),
        ([3, "full"], b"10\n40\n50\n", 2),
        ([4, "full", "full"], b"10\n2", 4),
        ([4, "full", 1, "full"], b"10\n2\n", 4),
        ([4, 1, 4], b"10\n20\n30\n40\n50\n", 0),
    ],
    ids=[
        "broken within a line",
        "broken between lines",
        "broken twice",
        "broken after its line feed",
        "short writes",
    ],
)
async def test_a_line_that_broke_off_spoils_no_other(
    disk: Callable[..., Disk], tmp_path: Path, script: list[Any], written: bytes, dropped: int
):
    taken = disk(*(OSError(errno.ENOSPC, "full") if step == "full" else step for step in script))
    file = LogFile(tmp_path / "log")
    append(file, 10, 20, 30)
    file.flush()
    append(file, 40, 50)
    close(file)
    assert taken.taken == written
    assert file.dropped == dropped


async def test_reopening_ends_a_broken_line(disk: Callable[..., Disk], tmp_path: Path):
    taken = disk(1, OSError(errno.ENOSPC, "full"))
    file = LogFile(tmp_path / "log")
    append(file, 10)
    file.reopen()
    append(file, 20)
    close(file)
    assert taken.taken == b"120\n"


async def test_an_output_that_is_not_blocking_is_waited_for(tmp_path: Path):
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        file = LogFile()
        file._descriptor = writer
        line = b"x" * 1000 + b"\n"
        for _ in range(200):
            file.append((lambda record: line, None))
        file.close()
        received = b""
        while len(received) < 200 * len(line):
            received += await asyncio.to_thread(os.read, reader, 65536)
        assert received == line * 200
        assert file.wait(PATIENCE)
        assert file.dropped == 0
    finally:
        os.close(reader)
        os.close(writer)


# The end of the process.


async def test_finish_waits_no_longer_than_it_is_told(disk: Callable[..., Disk], tmp_path: Path):
    release = threading.Event()
    disk(release.wait)
    file = LogFile(tmp_path / "log")
    append(file, 1)
    file.flush()
    assert finish(0.01) is False
    release.set()
    assert file.wait(PATIENCE)
    assert finish(0.01) is True


def test_lines_handed_over_are_written_before_the_process_ends(tmp_path: Path):
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from gateway.lifetime.logs.logfile import LogFile\n"
        "async def main():\n"
        "    file = LogFile(Path(sys.argv[1]), interval=3600)\n"
        "    for number in range(1000): file.append((lambda record: b'%d\\n' % record[1], "
        "number))\n"
        "    await asyncio.sleep(0)\n"
        "    file.flush()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], check=True, timeout=60)
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % each for each in range(1000))


# Whatever happens in whatever order.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["one", "many", "flush", "reopen", "turn"]), max_size=20))
def test_every_line_is_written_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
):
    path = tmp_path_factory.mktemp("logs") / "log"

    async def run() -> int:
        file, count = LogFile(path, interval=3600), 0
        for step in steps:
            if step in ("one", "many"):
                more = 1 if step == "one" else BATCH + 3
                append(file, *range(count, count + more))
                count += more
            elif step == "flush":
                file.flush()
            elif step == "reopen":
                file.reopen()
            else:
                await asyncio.sleep(0)
        close(file)
        return count

    count = asyncio.run(run())
    assert path.read_bytes() == b"".join(b"%d\n" % each for each in range(count))


def test_a_file_is_the_same_however_it_is_spelt(tmp_path: Path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipelines")
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere.log")
    path = (tmp_path / "audit.log").parent.resolve() / "audit.log"
    for directory, name in (
        (tmp_path, "audit.log"),
        (tmp_path / "pipelines", "../audit.log"),
        (tmp_path / "link", "../audit.log"),
        (Path("/x"), str(path)),
    ):
        assert logfile.located(directory, name) == path
    assert logfile.located(tmp_path, "-") is None


async def test_a_copy_of_the_process_writes_with_a_thread_of_its_own(tmp_path):
    file = LogFile(tmp_path / "log")
    append(file, 1)
    assert await logqueue.drained(PATIENCE)
    assert (tmp_path / "log").read_bytes() == b"1\n" and file.idle
    before = file._thread
    logqueue.restart_threads()  # as after a fork, in which the thread is not there any more
    append(file, 2)
    assert await logqueue.drained(PATIENCE)
    assert (tmp_path / "log").read_bytes() == b"1\n2\n" and file._thread is not before
    close(file)


async def test_what_is_not_written_in_time_is_not_waited_for(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(os, "write", lambda *data: gate.wait(PATIENCE) and len(data[1]))
    file = LogFile(tmp_path / "log")
    append(file, 1)
    assert not await logqueue.drained(0.01)
    gate.set()
    assert await logqueue.drained(PATIENCE)
    close(file)
