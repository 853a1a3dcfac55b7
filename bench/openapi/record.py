#!/usr/bin/env python3
"""What openapi-core says of the requests in tests/openapi, for tests to compare with.

    python3 -m venv /tmp/openapi-core && /tmp/openapi-core/bin/pip install "openapi-core>=0.23" PyYAML
    /tmp/openapi-core/bin/python bench/openapi/record.py     # writes tests/openapi/verdicts.json

It needs other versions of what the gateway uses, hence the environment of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from openapi_core import OpenAPI  # noqa: E402
from openapi_core.datatypes import RequestParameters  # noqa: E402
from werkzeug.datastructures import Headers, ImmutableMultiDict  # noqa: E402

from tests.openapi.cases import HERE, Case, cases  # noqa: E402


class Request:
    """A case as openapi-core wants a request."""

    def __init__(self, case: Case) -> None:
        path, _, query = case.target.partition("?")
        headers = Headers(list(case.headers))
        cookies = {}
        for part in headers.get("Cookie", "").split(";"):
            name, equals, value = part.strip().partition("=")
            if equals:
                cookies[name] = value
        self.host_url = "http://localhost"
        self.path = path
        self.method = case.method.lower()
        self.content_type = headers.get("Content-Type", "")
        self.body = None if case.body is None else case.body.encode()
        pairs = parse_qsl(query, keep_blank_values=True)
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(pairs), header=headers, cookie=ImmutableMultiDict(cookies)
        )


def verdict(api: Any, case: Case) -> str:
    """ "" for a request that is right, else what is wrong with it."""
    try:
        api.validate_request(Request(case))
    except Exception as error:
        cause = error.__cause__
        return type(error).__name__ + (f": {type(cause).__name__}" if cause else "")
    return ""


def main() -> None:
    apis = {name: OpenAPI.from_file_path(str(HERE / name)) for name in ("styles.json", "old.yaml")}
    found = {case.name: verdict(apis[case.document], case) for case in cases()}
    (HERE / "verdicts.json").write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    print(f"{len(found)} requests, {sum(not one for one in found.values())} of them right")


if __name__ == "__main__":
    main()
