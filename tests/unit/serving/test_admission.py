from __future__ import annotations

import re
from uuid import UUID

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


def test_request_ids_differ_and_look_as_configured():
    for config, look in ((ServerConfig(), r"[0-9a-f]{32}"), (ServerConfig(request_id="uuid"), "")):
        admission = Admission(config)
        made = [admission.new_id() for _ in range(100)]
        assert len(set(made)) == 100
        if look:
            assert all(re.fullmatch(look, one) for one in made)
        else:
            assert {UUID(one).version for one in made} == {4}
