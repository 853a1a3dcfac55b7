"""What [caching] may say, and what it means for the store."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway import middlewares
from gateway.core.hooks import ConfigProblem, Context
from gateway.middlewares import caching
from gateway.middlewares.caching.config import CachingConfig
from tests.unit.middlewares.caching.world import MINUTE, Cached, answer


def test_the_catalogue_finds_it():
    kind = middlewares.find("caching")
    assert kind.build is caching.build
    assert kind.config is not None
    assert kind.config().load({}) == CachingConfig()


def test_everything_can_be_set():
    config = caching.CONFIG().load(
        {
            "default_ttl": "1m",
            "statuses": [200, 404],
            "heuristic": True,
            "targets": ["Gateway-Cache-Control"],
            "set_cookie": True,
            "max_size": "1MiB",
            "max_entry": "1KiB",
            "stale_if_error": "1h",
            "stale_while_revalidate": "1m",
            "private": True,
            "request_directives": False,
            "invalidate": ["/a*"],
            "key": {"headers": ["X-Tenant"], "query_ignore": ["utm_*"]},
        }
    )
    assert config == CachingConfig(
        default_ttl=60,
        statuses=(200, 404),
        heuristic=True,
        targets=("Gateway-Cache-Control",),
        set_cookie=True,
        max_size=2**20,
        max_entry=1024,
        stale_if_error=3600,
        stale_while_revalidate=60,
        private=True,
        request_directives=False,
        invalidate=("/a*",),
        key=caching.KeyConfig(("X-Tenant",), ("utm_*",)),
    )


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"ttl": 5}, "ttl"),
        ({"default_ttl": "soon"}, "default_ttl"),
        ({"max_size": -1}, "max_size"),
        ({"private": 1}, "private"),
        ({"targets": ["not a name"]}, "targets"),
        ({"invalidate": ["cameras"]}, "invalidate"),
        ({"invalidate": [""]}, "invalidate"),
        ({"invalidate": ["/a/{id}/*/b"]}, "invalidate"),
        ({"tags": ["no name"]}, "tags"),
        ({"store": "disk"}, "store"),
        ({"key": {"headers": ["not a name"]}}, "key"),
        ({"key": {"cookies": []}}, "key"),
    ],
)
def test_what_cannot_be_set(table: dict[str, Any], at: str):
    with pytest.raises(ValidationError) as caught:
        caching.CONFIG().load(table)
    assert list(caught.value.normalized_messages()) == [at]


def test_the_wrong_pattern_is_named_by_its_place():
    with pytest.raises(ValidationError) as caught:
        caching.CONFIG().load({"invalidate": ["/fine", "wrong"]})
    assert list(caught.value.normalized_messages()["invalidate"]) == [1]


def test_one_store_for_the_process():
    """Whatever the settings: a reload that changes them keeps what is stored."""
    world = Cached()
    world.ask(answer(MINUTE))
    world.world.reload()
    assert Cached({"max_size": "1MiB", "private": True}, on=world).ask().cache == "hit"


def test_what_is_stored_is_measured_by_pipeline():
    world = Cached({"max_size": 8000, "max_entry": 8000})
    for number in range(8):
        world.ask(answer(MINUTE, b"x" * 1000), target=f"/{number}")
    telemetry, labels = world.telemetry, ("test", "")
    assert telemetry.cache_bytes.get(labels) == world.memory.used > 1000
    assert telemetry.cache_responses.get(labels) == len(world.memory) > 0
    assert telemetry.cache_evictions.get(labels) == world.memory.evictions > 0


def test_a_shared_store_has_to_be_there():
    with pytest.raises(ConfigProblem) as caught:
        caching.build(CachingConfig(store="redis"), Context(name="caching"))
    assert caught.value.at == ("store",)


@pytest.mark.parametrize("said", ["X-Tag", ["X-Tag"]])
def test_tags_in_one_field_or_several(said: Any):
    assert caching.CONFIG().load({"tags": said}).tags == ("X-Tag",)
