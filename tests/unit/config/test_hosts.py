"""Names of hosts in their one spelling."""

from __future__ import annotations

import pytest

from gateway.config.hosts import a_labels, host_name


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com.", "*.example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example.", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),  # Decomposed.
        ("*.münchen.example", "*.xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("straße.example", "xn--strae-oqa.example"),  # As browsers have it, not "strasse".
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("under_score.example", "under_score.example"),
        ("[0:0::1]", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_one_spelling(written: str, host: str):
    assert host_name(written) == host
    assert host_name(host) == host


@pytest.mark.parametrize("written", ["[::1::]", "[]", "a\u2028b.example", "ü" * 64 + ".example"])
def test_what_is_no_host(written: str):
    with pytest.raises(ValueError, match="is no"):
        host_name(written)


def test_the_resolver_still_sees_the_dot():
    assert a_labels("München.example.") == "xn--mnchen-3ya.example."
