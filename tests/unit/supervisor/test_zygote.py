"""The process that forks workers, as a real one. It runs in a process without threads of its own,
which that of the tests may not be."""

from __future__ import annotations

import asyncio
import subprocess
import sys

PROGRAM = """
import asyncio, os, signal, socket, sys, time
from gateway.supervisor.zygote import Zygote

def work(index, descriptors):
    if index == 3:
        return 0
    if any(map(os.get_inheritable, descriptors)):
        return 1
    mine = socket.socket(fileno=descriptors[0])
    mine.sendall(b"%d %d" % (index, len(descriptors)))
    mine.recv(1)
    return 40 + index

async def life(zygote):
    loop = asyncio.get_running_loop()
    ended = asyncio.Queue()
    zygote.ended = lambda pid, status: ended.put_nowait((pid, os.waitstatus_to_exitcode(status)))
    gone = asyncio.Event()
    zygote.gone = gone.set
    zygote.attach()
    ours = {}
    for index in (1, 2):
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        pid = await zygote.fork(index, [theirs.fileno(), 0])
        theirs.close()
        ours[pid] = mine
        assert await loop.sock_recv(mine, 100) == b"%d 2" % index
    first, second = ours
    await loop.sock_sendall(ours[first], b"x")
    assert await ended.get() == (first, 41)
    os.kill(second, signal.SIGKILL)
    assert await ended.get() == (second, -signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(zygote.pid, number)
    assert await zygote.fork(3, [0, 0])
    if sys.argv[1] == "closes":
        zygote.close()
    else:
        os.kill(zygote.pid, signal.SIGKILL)
        await gone.wait()
        try:
            await zygote.fork(4, [0])
        except OSError:
            pass
        else:
            raise AssertionError("there is nothing that forks")
        zygote.close()
    os.waitpid(zygote.pid, 0)
    print("fine")

asyncio.run(life(Zygote.start(lambda: None, work)))
"""


def run(how: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60
    )
    return ended.returncode, ended.stdout + ended.stderr


async def test_it_forks_says_who_ended_and_ends_with_its_owner():
    code, said = await asyncio.to_thread(run, "closes")
    assert (code, said) == (0, "fine\n")


async def test_when_it_is_killed_its_owner_is_told():
    code, said = await asyncio.to_thread(run, "is killed")
    assert code == 0 and "fine" in said, said
