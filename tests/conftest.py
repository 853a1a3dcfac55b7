"""Rules for the whole suite."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile(
    "untimed"
)  # How long an example takes says more about the machine than about the code.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--modes",
        action="store_true",
        help="run every flow test in all three modes of tests/flow/modes.py",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="have the tests of pages write the pictures of docs/screenshots",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the interpreted gateway can be tested with, where it is compiled."""
    from gateway.core import wait

    if wait.__file__.endswith(".py"):
        return
    left_out = [item for item in items if item.get_closest_marker("interpreted")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail that would be skipped, where CI=true: there everything it needs can be
    installed."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure with CI=true: {report.longrepr[-1]}"
    return report


@pytest.fixture(autouse=True)
def quiet_loop() -> Iterator[None]:
    """Let a test fail whose event loop had an error to report that nothing else would notice: an
    exception in a callback or a protocol, or in a task that nobody awaits.
    """
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)
    yield
    logging.getLogger("asyncio").removeHandler(handler)
    assert not errors, "\n".join(errors)
