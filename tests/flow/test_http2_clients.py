"""Real clients of HTTP/2: curl, nghttp, Node's http2, and httpx."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import ssl

import httpx
import pytest

from tests.certificates import Authority
from tests.flow.conftest import PLAIN
from tests.flow.test_http2 import LISTEN
from tests.flow.test_proxy import upstreams

TLS = 'tls = { certificate = "edge.pem", key = "edge.key" }\n'
BODY = bytes(range(256)) * 2000

NODE = """
const http2 = require('http2'), fs = require('fs'), crypto = require('crypto');
const [url, ca] = process.argv.slice(1);
const session = http2.connect(url, { ca: fs.readFileSync(ca), servername: 'gateway.test' });
const ask = (headers, body) => new Promise((resolve, reject) => {
  const stream = session.request(headers), chunks = [];
  let status;
  stream.on('response', (got) => { status = got[':status']; });
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => resolve([status, Buffer.concat(chunks).length]));
  stream.on('error', reject);
  stream.end(body);
});
(async () => {
  const many = await Promise.all([...Array(50).keys()].map((n) => ask({ ':path': '/' + n })));
  const posted = await ask({ ':path': '/post', ':method': 'POST' }, Buffer.alloc(512000, 1));
  console.log(JSON.stringify({ many, posted }));
  session.close();
})();
"""


@pytest.fixture
async def gateway(start, origin_of, tmp_path):
    """Answers with the size and the digest of what it was sent."""
    Authority(tmp_path).issue("edge", "gateway.test", "127.0.0.1")

    async def respond(origin, head, reader, writer):
        body = origin.bodies[-1] if b"POST" in head[:5] else b""
        said = json.dumps([len(body), hashlib.sha256(body).hexdigest()]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        return True

    made = await start(PLAIN, upstreams(await origin_of(respond)), LISTEN + TLS)
    made.directory = tmp_path
    return made


async def run(*command: str) -> str:
    """What a program says."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


def expected(body: bytes) -> list[object]:
    return [len(body), hashlib.sha256(body).hexdigest()]


async def test_curl(gateway):
    (gateway.directory / "body").write_bytes(BODY)
    said = await run(
        *("curl", "-sS", "--http2", "--cacert", str(gateway.directory / "ca.pem")),
        *("--resolve", f"gateway.test:{gateway.port}:127.0.0.1"),
        *("--data-binary", f"@{gateway.directory}/body", "-w", "\n%{http_version} %{http_code}"),
        f"https://gateway.test:{gateway.port}/",
    )
    answer, versions = said.split("\n")
    assert versions == "2 200" and json.loads(answer) == expected(BODY)


async def test_nghttp(gateway):
    said = await run("nghttp", "-nsv", "-m30", f"https://127.0.0.1:{gateway.port}/a")
    assert said.count(":status: 200") == 30 and "GOAWAY" in said


async def test_node(gateway):
    ca = str(gateway.directory / "ca.pem")
    said = json.loads(await run("node", "-e", NODE, f"https://127.0.0.1:{gateway.port}", ca))
    assert [status for status, _ in said["many"]] == [200] * 50
    assert said["posted"][0] == 200


async def test_httpx(gateway):
    context = ssl.create_default_context(cafile=gateway.directory / "ca.pem")
    async with httpx.AsyncClient(http2=True, verify=context) as client:
        base = f"https://127.0.0.1:{gateway.port}"
        answers = await asyncio.gather(*(client.get(f"{base}/{n}") for n in range(30)))
        assert {(one.status_code, one.http_version) for one in answers} == {(200, "HTTP/2")}
        posted = await client.post(base, content=BODY)
        assert posted.json() == expected(BODY)
        async with client.stream("GET", base) as stream:  # Given up in between.
            assert stream.status_code == 200
        assert (await client.get(base)).json() == expected(b"")
