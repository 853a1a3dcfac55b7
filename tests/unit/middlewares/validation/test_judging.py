from __future__ import annotations

import io

import orjson

from gateway.middlewares.validation.judging import main


def message(about: dict[str, object], data: bytes) -> bytes:
    payload = orjson.dumps(about) + b"\n" + data
    return len(payload).to_bytes(4, "big") + payload


def test_messages_in_and_verdicts_out_until_the_end():
    about = {"schema": "s", "kind": "json", "rewrite": False, "depth": 8, "members": 8}
    rules = {"rules": {"type": "array", "items": {"type": "integer"}}, "base": None, "name": "s"}
    rules |= {"split": [], "cleaning": {"coerce": True}}
    source = (
        message({**about, **rules}, b"[1]")
        + message(about, b'["a"]')
        + message(about, b"[1,]")
        + message({**about, "rewrite": True}, b'["7"]')
    )
    sink = io.BytesIO()
    main(io.BytesIO(source), sink)
    answers, raw = [], sink.getvalue()
    while raw:
        size = int.from_bytes(raw[:4], "big")
        answers.append(orjson.loads(raw[4 : 4 + size] or b"null"))
        raw = raw[4 + size :]
    assert answers[0] is None  # It is ready.
    assert answers[1] == {"errors": []}
    assert answers[2]["errors"][0]["field"] == "0"
    assert answers[3]["failure"] == "MALFORMED"
    assert answers[4] == {"errors": [], "body": "[7]"}
