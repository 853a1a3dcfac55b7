from __future__ import annotations

import pytest

from gateway.core.hooks import ConfigProblem
from gateway.runtime.passed_headers import passed_headers
from tests.exchange import exchange


def test_what_is_asked_for_is_passed_on():
    hooks = passed_headers(("X-HTTP-Method-Override",))
    assert hooks.request is not None
    request = exchange("POST", "/", {"x-http-method-override": "PATCH", "X-Original-URL": "/admin"})
    hooks.request(request)
    assert request.forward_headers == [(b"x-http-method-override", b"PATCH")]
    request = exchange("POST", "/", {"X_HTTP_Method_Override": "PATCH"})
    hooks.request(request)
    assert request.forward_headers is None


@pytest.mark.parametrize(
    "name", ["X-Client-ID", "X-Forwarded-For", "Accept", "Connection", "X_Client_Roles"]
)
def test_what_cannot_be_asked_for(name: str):
    with pytest.raises(ConfigProblem) as caught:
        passed_headers(("X-Rewrite-URL", name))
    assert caught.value.at == ("pass_headers", 1)
