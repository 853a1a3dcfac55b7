"""Names that `auth` takes credentials from: in no log, whatever the pipeline, and not with the
upstream of an open route."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.credentials.api_keys.key_file import digest
from tests.client import Client
from tests.flow.test_proxy import upstreams
from tests.until import until

KEY = "bec_" + "5e" * 32

PIPELINE = """
request = {request}
response = ["logging"]
error = ["error_handler", "logging"]
[auth]
api_key = {{ header = "X-Partner-Key", query = "pk", file = "../keys.toml" }}
[logging]
file = "../access.log"
mask = []
query = true
why = true
headers = ["X-Partner-Key", "Referer", "Authorization"]
[[route]]
prefix = "/"
upstream = "origin"
[[route]]
prefix = "/open"
upstream = "origin"
auth = false
[[route]]
prefix = "/own"
upstream = "origin"
request = ["logging"]
"""


@pytest.mark.parametrize("request_list", ['["auth", "logging"]', '["logging", "auth"]'])
async def test_keys_show_nowhere(start, origin, tmp_path: Path, request_list: str):
    (tmp_path / "keys.toml").write_text(
        f'[[key]]\nid = "k"\nclient = "acme"\nhash = "sha256:{digest(KEY).hex()}"\n'
    )
    gateway = await start(PIPELINE.format(request=request_list), upstreams(origin))
    client = await Client.connect(gateway.port)
    header, referer, authorization = (
        f"X-Partner-Key: {KEY}",
        f"Referer: http://a/?pk={KEY}",
        f"Authorization: ApiKey {KEY}",
    )
    for target, lines, status in (
        ("/a", (header, referer), 200),
        (f"/a?pk={KEY}&x=1", (referer,), 200),
        (f"/a?pk={KEY}&pk={KEY}", (), 400),
        ("/a", (header, header), 400),
        ("/a", (authorization,), 200),
        (f"/a?p%6B={KEY}", (f"X-Partner-Key: {KEY[:-1]}",), 400),
        (f"/open/a?pk={KEY}&pk={KEY}&x=1", (header, header, referer, authorization), 200),
        (f"/own/a?x=1&pk={KEY}", (header,), 200),
    ):
        reply = await client.get(target, *lines)
        assert reply.status == status, target
        assert KEY.encode() not in reply.body
    client.close()
    await gateway.close()
    log = tmp_path / "access.log"
    await until(lambda: log.read_text().count("\n") == 8)
    assert KEY not in log.read_text() and "***" in log.read_text()
    heads = b"".join(origin.heads).replace(referer.encode(), b"")
    assert KEY.encode() not in heads and b"x=1" in heads
