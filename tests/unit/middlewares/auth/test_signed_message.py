"""Components and parameters of signed messages (RFC 9421 sections 2 and 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.middlewares.auth import signature, signed_message
from gateway.middlewares.auth.signed_message import Unreadable
from tests.exchange import exchange
from tests.unit.middlewares.auth.test_signature import WORD


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("@method", "POST"),
        ("@target-uri", "https://www.example.com:8443/path?param=value"),
        ("@authority", "www.example.com:8443"),
        ("@scheme", "https"),
        ("@request-target", "/path?param=value"),
        ("@path", "/path"),
        ("@query", "?param=value"),
        ("x-two", "one, two"),
        ("x-empty", ""),
    ],
)
def test_components(name: str, value: str):
    pairs = [
        ("Host", "WWW.Example.com:8443"),
        ("X-Two", " one "),
        ("x-two", "two\t"),
        ("X-Empty", ""),
    ]
    request = exchange("POST", "/path?param=value", pairs, scheme="https")
    assert signature.component(request, name) == value


@pytest.mark.parametrize(
    ("scheme", "host", "authority"),
    [
        ("http", "A.com:80", "a.com"),
        ("https", "a.com:443", "a.com"),
        ("http", "a.com:443", "a.com:443"),
        ("http", "[::1]", "[::1]"),
    ],
)
def test_ports_that_go_without_saying(scheme: str, host: str, authority: str):
    request = exchange(headers={"Host": host}, scheme=scheme)
    assert signature.component(request, "@authority") == authority
    assert signature.component(request, "@query") == "?"


@given(
    st.text(st.characters(codec="ascii"), max_size=60),
    st.text(st.characters(codec="ascii"), max_size=60),
)
def test_anything_is_read_or_refused(inputs: str, signatures: str):
    try:
        signed_message.read([f"s={inputs}", f'a=();keyid="a", {inputs}'], [signatures], {"a"})
    except Unreadable:
        pass


@given(
    st.lists(st.sampled_from(["@method", "@path", "date", "x-a"]), unique=True),
    st.integers(-(10**15) + 1, 10**15 - 1),
    WORD,
)
def test_parameters_are_written_as_they_were_read(components: list[str], created: int, keyid: str):
    quoted = " ".join(f'"{name}"' for name in components)
    escaped = keyid.replace("\\", "\\\\").replace('"', '\\"')
    params = f'({quoted});created={created};keyid="{escaped}"'
    found = signed_message.read([f"sig={params}"], ["sig=:AAAA:"], {keyid})
    assert found is not None and (found.params, found.keyid, found.created) == (
        params,
        keyid,
        created,
    )
    assert list(found.components) == components
