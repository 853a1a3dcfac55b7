"""Lines of several processes on one pipe stay whole."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from gateway.lifetime.logs.writing import pieces

WRITER = """
import os, sys
from gateway.lifetime.logs.logfile import LogFile
from gateway.lifetime.logs.writing import take_turns
lock, name = int(sys.argv[1]), sys.argv[2].encode()
take_turns(lock)
log = LogFile(descriptor=1)
for number in range(300):
    log.put(name * (1 + 97 * number % 9000) + b"\\n" if number % 50 else name * 70_000 + b"\\n")
log.close()
assert log.wait(60)
"""


@given(st.lists(st.integers(0, 3 * select.PIPE_BUF), max_size=30), st.booleans())
def test_pieces_are_whole_lines_and_small_unless_a_line_is_long(lengths, ends):
    chunk = b"".join(b"x" * length + b"\n" for length in lengths)
    chunk = chunk if ends else chunk[:-1]
    found = list(pieces(chunk))
    assert sorted(set(found)) == found
    assert (found[-1] if found else 0) == len(chunk)
    start = 0
    for end in found:
        piece = chunk[start:end]
        assert piece.endswith(b"\n") or end == len(chunk)
        assert len(piece) <= select.PIPE_BUF or piece.count(b"\n", 0, -1) == 0
        start = end


def test_processes_that_write_to_one_pipe_tear_no_line():
    lock = os.memfd_create("lock", 0)
    reading, writing = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(lock), name], stdout=writing, pass_fds=(lock,)
        )
        for name in "abc"
    ]
    os.close(writing)
    received = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 65536):
            received.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    reader.join(60)
    os.close(reading)
    os.close(lock)
    lines = bytes(received).splitlines()
    assert len(lines) == 900
    assert all(len(set(line)) == 1 for line in lines)
