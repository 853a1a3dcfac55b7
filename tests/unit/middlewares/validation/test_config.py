"""What [validation] may say."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway import middlewares
from gateway.middlewares import validation
from tests.unit.middlewares.validation.requests import build


def test_the_catalogue_finds_it():
    kind = middlewares.find("validation")
    assert kind.build is validation.build
    assert kind.config is not None
    assert kind.config().load({}) == validation.ValidationConfig()


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"max_body": "big"}, "max_body"),
        ({"content_types": ["json"]}, "content_types"),
        ({"content_types": ["a/b; c=d"]}, "content_types"),
        ({"methods": ["post"]}, "methods"),
        ({"body": {}}, "body"),
        ({"body": {"file": "a", "schema": {}}}, "body"),
        ({"body": {"url": "a"}}, "body"),
        ({"query": {"marshmallow": "Class"}}, "query"),
        ({"query": True}, "query"),
        ({"headers": {}}, "headers"),
    ],
)
def test_what_cannot_be_set(table: dict[str, Any], at: str):
    with pytest.raises(ValidationError) as caught:
        validation.CONFIG().load(table)
    assert list(caught.value.normalized_messages()) == [at]


def test_the_hook_is_awaited_only_where_a_body_is_read():
    kinds = [
        ({}, False),
        ({"query": {"schema": {}}}, False),
        ({"path": {"schema": {}}}, False),
        ({"body": {"schema": {}}}, True),
    ]
    for table, awaited in kinds:
        assert inspect.iscoroutinefunction(build(table).request) == awaited
