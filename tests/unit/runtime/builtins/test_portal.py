"""A portal that cannot be is said where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.new_keys import Wish
from tests.unit.runtime.test_compose import composed

LISTS = (
    'request = ["auth"]\nauth = { methods = ["api_key"], api_key = { file = "../keys.toml" } }\n'
)


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (LISTS + '[[route]]\npath = "/portal"\nbuiltin = "portal"\n', "has pages below its own"),
        (
            '[[route]]\nprefix = "/portal"\nbuiltin = "portal"\n',
            "needs to know how partners log in",
        ),
        (
            LISTS + '[[route]]\nprefix = "/portal"\nbuiltin = "portal"\nauth = false\n',
            "needs to know how partners log in",
        ),
        (
            'request = ["auth"]\n[auth]\nmethods = ["basic"]\nbasic.file = "../users.toml"\n'
            '[[route]]\nprefix = "/portal"\nbuiltin = "portal"\n',
            "log in by an API key or a token",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, pipeline: str, said: str):
    key_edits.create(tmp_path / "keys.toml", Wish("acme"), 0.0)
    (tmp_path / "users.toml").write_text("")
    with pytest.raises(ConfigErrors) as caught:
        composed(tmp_path, pipeline)
    (problem,) = caught.value.problems
    assert problem.message.startswith("route.builtin: ") and said in problem.message
    assert problem.file.name == "test.toml" and problem.line > 1


def test_the_page_is_not_behind_auth(tmp_path: Path):
    key_edits.create(tmp_path / "keys.toml", Wish("acme"), 0.0)
    pipeline = (
        LISTS
        + '[[route]]\nprefix = "/portal"\nbuiltin = "portal"\n[[route]]\npath = "/me"\nbuiltin = "me"\n'
    )
    portal, me = composed(tmp_path, pipeline).routes
    assert len(portal.pipeline.request) + 1 == len(me.pipeline.request)
