"""Links of the documentation lead to files and headings that exist, and every page is led to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import generated
from tests.docs.pages import PAGES, ROOT, anchor, anchors, links, name_of

LANDING = ROOT / "docs" / "README.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    dead = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            dead.append(link)
        elif heading and target.suffix == ".md" and heading not in anchors(target):
            dead.append(f"{link}: {name_of(target)} has no such heading")
    assert dead == []


def test_a_reader_comes_to_every_page():
    """From the landing page or the README, by links."""
    reached: set[Path] = set()
    ahead = [LANDING, ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            found = ((page.parent / link.partition("#")[0]).resolve() for link in links(page))
            ahead += [target for target in found if target in PAGES]
    docs = [page for page in PAGES if (ROOT / "docs") in page.parents]
    assert [name_of(page) for page in docs if page not in reached] == []


@pytest.mark.parametrize("page", generated.written(), ids=name_of)
def test_generated_pages_are_what_the_command_writes(page: Path):
    assert page.read_text("utf-8") == generated.written()[page], (
        "run: python -m tests.docs.reference --write"
    )


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("`[upstream.NAME.tls]`", "upstreamnametls"),
        ("What is on, and what it costs", "what-is-on-and-what-it-costs"),
        ("`gateway new-middleware`", "gateway-new-middleware"),
        ("[A link](there.md) here", "a-link-here"),
        ("The `max_conns` key", "the-max_conns-key"),
    ],
)
def test_anchors_are_as_github_makes_them(heading: str, expected: str):
    assert anchor(heading) == expected
