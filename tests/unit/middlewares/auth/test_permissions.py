from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core.identities import covers
from gateway.middlewares.auth import permissions
from gateway.middlewares.auth.permissions import Permission, Require, Requirements


@pytest.mark.parametrize(
    ("held", "needed", "enough"),
    [
        ("", "", True),
        ("", "a:r", False),
        ("a:r", "a:r", True),
        ("a:r a:w", "a:r", True),
        ("a:r", "a:r a:w", False),
        ("*", "a:r b:w", True),
        ("a:*", "a:r a:w a:r:own", True),
        ("a:*", "a", False),
        ("a:*", "ab:r", False),
        ("a:*", "a:r b:r", False),
        ("a:* b:r", "a:r b:r", True),
        ("a:*", "a:*", True),
        ("a:r", "a:*", False),
    ],
)
def test_covers(held: str, needed: str, enough: bool):
    assert covers(frozenset(held.split()), frozenset(needed.split())) is enough


words = st.frozensets(
    st.sampled_from(["*", "a:*", "a:b:*", "a:r", "a:b:r", "b:r", "c"]), max_size=4
)


@given(words, words)
def test_memory_changes_no_verdict(held: frozenset[str], needed: frozenset[str]):
    requirements = Requirements({})
    assert [requirements.met(needed, held) for _ in range(2)] == [covers(held, needed)] * 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(permissions, "MEMORY", 10)
    requirements = Requirements({})
    for number in range(35):
        assert requirements.met(frozenset({f"p{number}"}), frozenset({f"p{number}"}))
        assert len(requirements._verdicts) <= 10


@pytest.mark.parametrize(
    ("written", "method", "needed"),
    [
        (["a"], "GET", {"a"}),
        (["a"], "BREW", {"a"}),
        ([], "GET", set()),
        ({"GET": ["r"], "*": ["w", "x"]}, "GET", {"r"}),
        ({"GET": ["r"], "*": ["w", "x"]}, "HEAD", {"r"}),
        ({"GET": ["r"], "HEAD": [], "*": ["w"]}, "HEAD", set()),
        ({"GET": ["r"], "*": ["w", "x"]}, "POST", {"w", "x"}),
        ({"GET": ["r"], "*": []}, "POST", set()),
        ({"*": ["w"]}, "HEAD", {"w"}),
    ],
)
def test_require(written: Any, method: str, needed: set[str]):
    assert Requirements(Require().deserialize(written)).of(method) == needed


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a", "must be an array of permissions, or a table"),
        ([3], "must be a string"),
        (["a*"], 'stands alone or after a colon, as in "cameras:*"'),
        ({"GET": "a", "*": []}, "must be an array"),
        ({"get": [], "*": []}, "in capitals"),
        ({"GET": ["a"]}, 'say what the other methods need: "*" = []'),
    ],
)
def test_require_wrong(written: Any, said: str):
    with pytest.raises(ValidationError) as caught:
        Require().deserialize(written)
    assert said in str(caught.value.messages)


def test_require_says_everything_wrong_by_method():
    with pytest.raises(ValidationError) as caught:
        Require().deserialize({"get": ["a"], "POST": ["b*"]})
    assert set(caught.value.messages) == {"get", "POST", "*"}


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        (["a:*", "*"], True),
        ({"GET": ["r"], "*": []}, True),
        (["a*"], False),
        ({"GET": ["r"]}, False),
        ({"get": [], "*": []}, False),
        ("a", False),
    ],
)
def test_editors_are_told_the_same(written: Any, valid: bool):
    assert jsonschema_rs.is_valid(Require.json_schema(), written) is valid
    try:
        Require().deserialize(written)
    except ValidationError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize("word", ["*", "a", "a:*", "a:b"])
def test_permission(word: str):
    assert Permission().deserialize(word) == word


@pytest.mark.parametrize("word", ["**", "*:a", "a*", "a b", "a,b", ""])
def test_permission_wrong(word: str):
    with pytest.raises(ValidationError):
        Permission().deserialize(word)
