"""The files of pages: what npm has published stays as it is, and a page has all that it names."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest

import gateway.pages
from gateway.pages.assets import PAGES, POLICY, assets

FOLDER = Path(gateway.pages.__file__).parent
PINNED = {
    "preact.umd.js": "134b77bc803fa38661dc1b1e44e96eb0bb6a1a00edbb96d34dcde421b2e80b06",
    "preact-hooks.umd.js": "5c29238e5dc99df306d7f7fff038591a397cfcfabb59f81fbdef43d670aa0566",
    "htm.umd.js": "7a31776e04bd4afde0d4308177d26f377716fcf7e4bd70be590746d6aa594f08",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "preact.LICENSE": "1fe6958409c8c257a70c587a18b6f7f412b179b456630790d30b2ec9a8e4b7d4",
    "htm.LICENSE": "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of the files as npm has published them (vendor/README.md)."""


def test_copies_are_those_that_were_published():
    found = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "vendor").iterdir()
        if path.name != "README.md"
    }
    assert found == PINNED


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_what_it_names_and_nothing_inline(page: str):
    files = assets(page)
    text = files[PAGES[page][0]].body.decode()
    named = set(re.findall(r'(?:src|href)="(?:\{base\})?([^"]+)"', text))
    assert named and {name.removeprefix("pages/") for name in named} <= set(files)
    for asset in files.values():
        if asset.media_type.startswith("text/javascript"):
            imported = re.findall(
                r'^import .* from "\./([^"]+)";', asset.body.decode(), re.MULTILINE
            )
            assert set(imported) <= set(files)
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|https?:", text)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere():
    assert "unsafe" not in POLICY and "http" not in POLICY and "*" not in POLICY
    assert POLICY.startswith("default-src 'none'")


def test_the_package_brings_them():
    """setup.cfg names what is no Python."""
    named = (FOLDER.parent.parent / "setup.cfg").read_text()
    for pattern in ("pages/*.html", "pages/*.css", "pages/*.js", "pages/*.svg", "pages/vendor/*"):
        assert f"    {pattern}\n" in named


def test_a_tag_is_of_the_content():
    one, other = assets("dashboard")["kit.js"], assets("dashboard")["charts.js"]
    assert one.tag != other.tag and one.tag[0] == one.tag[-1] == '"'
