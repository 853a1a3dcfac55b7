from __future__ import annotations

import pytest

from gateway.core.methods import REGISTERED, misspelt


@pytest.mark.parametrize(
    ("method", "meant"),
    [
        ("get", "GET"),
        ("Delete", "DELETE"),
        ("pAtCh", "PATCH"),
        ("version-control", "VERSION-CONTROL"),
        ("GET", ""),
        ("purge", ""),
        ("PURGE", ""),
        ("gett", ""),
    ],
)
def test_methods_that_differ_in_case_only(method: str, meant: str):
    assert misspelt(method) == meant


def test_registered_methods_are_themselves():
    assert not any(misspelt(method) for method in REGISTERED)
