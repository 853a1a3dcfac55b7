"""Imports between the modules of gateway/, read from the source, and the picture of them in
ARCHITECTURE.md.

    python -m tests.imports            # prints the picture
    python -m tests.imports --write    # puts it into ARCHITECTURE.md

Every import counts: one inside a function and one under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gateway

ROOT = Path(gateway.__file__).parent
PAGE = ROOT.parent / "ARCHITECTURE.md"
BEGIN = "<!-- python -m tests.imports --write: packages and their imports -->"
END = "<!-- end of packages and their imports -->"


@dataclass(frozen=True)
class Import:
    """`target` is a module of ours, or `target.name` for `from target import name` where that is a
    module."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, tree: ast.AST, known: frozenset[str]) -> Iterator[Import]:
    """Every import of ours in a module's tree. `known`: the names of all modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "gateway":
                    yield Import(source, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno} imports relatively"
            if (node.module or "").partition(".")[0] == "gateway":
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    yield Import(
                        source, deeper if deeper in known else str(node.module), node.lineno
                    )


@cache
def all_imports() -> list[Import]:
    files = modules()
    known = frozenset(files)
    return [
        found
        for name, path in files.items()
        for found in imports(name, ast.parse(path.read_text("utf-8")), known)
    ]


def package(module: str) -> str:
    """Return "upstream" for "gateway.upstream.pool", and "" for the gateway package itself, which
    only has the version."""
    return module.split(".")[1] if "." in module else ""


def circles(found: Iterable[Import]) -> set[frozenset[str]]:
    """Return the sets of modules that reach each other by imports (strongly connected components of
    two or more)."""
    needs: dict[str, set[str]] = {}
    for one in found:
        needs.setdefault(one.source, set()).add(one.target)
    reach = {name: _reachable(name, needs) for name in needs}
    return {
        frozenset(other for other in reach[name] if name in reach.get(other, ()))
        for name in needs
        if name in reach[name]
    }


def _reachable(start: str, needs: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = set(needs[start])
    while ahead:
        name = ahead.pop()
        seen.add(name)
        ahead |= needs.get(name, set()) - seen
    return seen


def picture(layers: Iterable[Iterable[str]]) -> str:
    """Return the packages, those on top first, a blank line between layers, each with the packages
    it imports.

    Imports of core, which everything may import, are left out.
    """
    needs: dict[str, set[str]] = {package(name): set() for name in modules()}
    for one in all_imports():
        needs[package(one.source)].add(package(one.target))
    drawn: list[list[str]] = []
    lower: list[str] = []
    for layer in layers:
        names = sorted(set(layer) & set(needs))
        rows = []
        for name in names:
            targets = [other for other in (*names, *lower) if other in needs[name] - {name, "core"}]
            rows.append(f"{name:12} -> {', '.join(targets)}" if targets else name)
        drawn.insert(0, rows)
        lower = [*names, *lower]
    return "\n\n".join("\n".join(rows) for rows in drawn if rows)


def in_page(text: str) -> str:
    """Return the picture that stands in the page `text`, between the two marker lines."""
    return text.partition(f"{BEGIN}\n```\n")[2].partition(f"\n```\n{END}")[0]


def main() -> None:
    from tests.unit.test_imports import LAYERS

    now = picture(LAYERS)
    if "--write" not in sys.argv:
        print(now)
        return
    text = PAGE.read_text("utf-8")
    before, _, after = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n```\n{now}\n```\n{END}{after.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
