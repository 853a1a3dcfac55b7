"""Wherever the version is told, it is the one of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway import __version__

ROOT = Path(__file__).resolve().parents[2]


def said(name: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    "name", ["deploy/compose/compose.yaml", "deploy/kubernetes/deployment.yaml", "docs/deploy.md"]
)
def test_images_are_of_this_version(name: str):
    assert said(name, r"edge-gateway:(\d+\.\d+\.\d+)") == {__version__}


def test_the_readme_tells_its_status():
    assert said("README.md", r"^Version (\d+\.\d+),") == {__version__.rpartition(".")[0]}


def test_the_changelog_has_it_below_what_is_not_released():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    (first, undated), (second, date), *_ = headings
    assert (first, undated, second) == ("Unreleased", "", __version__)
    assert date


def test_the_changelog_tells_everything_once():
    """Two branches that move entries merge without a conflict, and then have them twice."""
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    headings = [re.findall(r"^### (\w+)$", text, re.MULTILINE) for text in versions]
    assert [found for found in headings if len(found) != len(set(found))] == []
    entries = [line for text in versions for line in text.splitlines() if line.startswith("- ")]
    assert [line for line in set(entries) if entries.count(line) > 1] == []
