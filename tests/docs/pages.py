"""The pages of the documentation: their links, anchors, snippets and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "bench", "examples", "deploy", "gateway")
PAGES = sorted(
    (*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md")))
)
FENCED = re.compile(
    r"^(?P<in> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=in)```$", re.MULTILINE | re.DOTALL
)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Snippet(NamedTuple):
    """A block of code and the line that it begins in."""

    kind: str
    line: int
    text: str


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def fenced(page: Path) -> Iterator[Snippet]:
    text = text_of(page)
    for found in FENCED.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Snippet(found["kind"], line, dedent(found["text"]))


def indented_tables(page: Path) -> Iterator[Snippet]:
    """Indented blocks that begin with a table's header."""
    text = FENCED.sub(lambda found: "\n" * found[0].count("\n"), text_of(page))
    for found in re.finditer(r"(?<=\n\n)(?:    .*\n|\n(?=    ))+", text):
        block = re.sub(r"^    ", "", found[0], flags=re.MULTILINE)
        if re.match(r"\[\[?[a-z_.]+\]", block):
            yield Snippet("toml", text.count("\n", 0, found.start()) + 1, block)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    kept = FENCED.sub("", text_of(page))
    return "\n".join(line for line in kept.splitlines() if not line.startswith("    "))


def links(page: Path) -> list[str]:
    """Every link of a page, but for those within code."""
    return LINK.findall(INLINE.sub("", prose(page)) + "\n" + _linked_code(page))


def _linked_code(page: Path) -> str:
    """Links whose text is code, which INLINE would take away with it."""
    return "\n".join(re.findall(r"\[`[^`]+`\]\([^)\s]+\)", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", FENCED.sub("", text_of(page)), re.MULTILINE):
        base = anchor(heading)
        name, number = base, 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found


def anchor(heading: str) -> str:
    shown = LINK.sub(lambda link: link[0][link[0].index("[") + 1 : link[0].index("]")], heading)
    kept = re.sub(r"[^\w\- ]", "", shown.strip().lower())
    return kept.replace(" ", "-")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))
