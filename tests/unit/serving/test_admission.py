from __future__ import annotations

import pytest

from gateway.config.tables.server import ServerConfig
from gateway.core.failures import Failed, Failure
from gateway.serving.admission import Admission
from tests.exchange import exchange


@pytest.mark.parametrize("method", ["get", "Delete", "pAtCh", "propfind"])
def test_a_method_in_another_case_is_refused_or_taken_for_the_registered_one(method: str):
    request = exchange(method, "/", (("Host", "example.com"),))
    with pytest.raises(Failed) as caught:
        Admission(ServerConfig()).admit(request)
    assert caught.value.failure is Failure.MALFORMED
    Admission(ServerConfig(), uppercase_methods=True).admit(request)
    assert request.method == method.upper()


@pytest.mark.parametrize("method", ["purge", "PURGE", "M-SEARCH", "GET", "PROPFIND"])
def test_other_methods_stay_as_they_are(method: str):
    request = exchange(method, "/", (("Host", "example.com"),))
    Admission(ServerConfig(), uppercase_methods=True).admit(request)
    assert request.method == method
