#!/usr/bin/env python3
"""What the public suite of caches' tests (github.com/http-tests/cache-tests) says of `[caching]`.

    git clone https://github.com/http-tests/cache-tests.git && npm --prefix cache-tests install
    .venv/bin/python -m bench.cache_tests cache-tests            counts, and each test that fails
    .venv/bin/python -m bench.cache_tests cache-tests -i ID      one test, with its messages
    .venv/bin/python -m bench.cache_tests cache-tests -s 'store = "redis"' -u redis://127.0.0.1:6379/0

The suite's origin and its client run beside a gateway of one route, all on 127.0.0.1. Counted as on
cache-tests.fyi: a test whose dependency failed has not passed. docs/caching.md
explains the misses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.flow.conftest import write
from tests.process import Process
from tests.until import until

SETTINGS = ("heuristic = true", 'stale_if_error = "1m"')
"""What `[caching]` says beside its defaults: some tests are about heuristic freshness alone."""

PIPELINE = """
request = ["caching"]
response = ["caching"]
error = ["caching"]
[caching]
{settings}
[[route]]
prefix = "/"
upstream = "origin"
"""
LOOPBACK = """import net from 'net'
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function () { return listen.call(this, 0, '127.0.0.1') }"""
"""The suite's origin would listen on all addresses, at a port that it does not choose itself."""

TELL = """import suites from './tests/index.mjs'
import { determineTestResult } from './test-engine/lib/results.mjs'
const results = JSON.parse(process.argv[1])
console.log(JSON.stringify(suites.flatMap(suite => suite.tests.filter(test => !test.browser_only).map(test =>
  [test.kind || 'required', suite.id, test.id, test.name, determineTestResult(suites, test.id, results)[2],
    (results[test.id] || [])[1] || '']))))"""
PASSED = ("✅", "Y")


@contextmanager
def origin(suite: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    preload = "data:text/javascript," + LOOPBACK.replace("\n", ";")
    environ = {
        **os.environ,
        "npm_config_protocol": "http",
        "npm_config_port": "0",
        "npm_config_pidfile": os.devnull,
    }
    command = ["node", "--import", preload, "test-engine/server/server.mjs"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=suite, env=environ, stdout=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def listening(log: Path) -> str:
    return log.read_text().partition("Listening on ")[2].partition("/\n")[0]


async def client(suite: Path, base: str, test: str) -> str:
    environ = {**os.environ, "npm_config_base": base, "npm_package_config_id": test}
    process = await asyncio.create_subprocess_exec(
        "node", "--no-warnings", "test-engine/cli.mjs",
        cwd=suite, env=environ, stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode()


def judged(suite: Path, results: str) -> list[list[Any]]:
    command = ["node", "--input-type=module", "-e", TELL, results]
    told = subprocess.run(command, cwd=suite, check=True, capture_output=True, text=True)
    return json.loads(told.stdout)  # type: ignore[no-any-return]


def show(rows: list[list[Any]]) -> None:
    for kind in ("required", "optimal", "check"):
        own = [row for row in rows if row[0] == kind]
        passed = sum(row[4] in PASSED for row in own)
        print(f"{kind}: {passed} of {len(own)}")
    for kind, suite, test, _, mark, message in rows:
        if kind != "check" and mark not in PASSED:
            print(f"  {kind} {suite} {test} {mark} {message}")


async def run(suite: Path, settings: list[str], url: str, test: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "origin.log"
        with origin(suite, log):
            await until(lambda: listening(log) != "")
            toml = PIPELINE.format(settings="\n".join((*SETTINGS, *settings)))
            store = f'[store]\nurl = "{url}"\n' if url else ""
            write(folder, toml, f'[upstream.origin]\nurl = "{listening(log)}"\n', store)
            async with Process(folder / "gateway.toml") as gateway:
                out = await client(suite, f"http://127.0.0.1:{gateway.port}", test)
    if test:
        print(out)
    else:
        show(judged(suite, out[out.index("{") :]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("suite", type=Path, help="a checkout of the suite with its npm packages")
    parser.add_argument("-i", "--id", default="", help="one test only")
    parser.add_argument("-s", "--set", action="append", default=[], help="a line for [caching]")
    parser.add_argument("-u", "--url", default="", help="of Redis, for [store]")
    options = parser.parse_args()
    if not (options.suite / "node_modules").is_dir():
        sys.exit(f"{options.suite} has no packages: npm --prefix {options.suite} install")
    asyncio.run(run(options.suite.resolve(), options.set, options.url, options.id))


if __name__ == "__main__":
    main()
