"""docs/cli.md and the table of docs/metrics.md, made of what the code declares.

python -m tests.docs.reference --write      # writes them, too
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gateway.admin.application import SECONDS
from gateway.commands.catalogue import COMMANDS, GROUPS
from gateway.commands.outline import Argument, Outline, outline
from gateway.core.telemetry import Telemetry

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLI, METRICS = DOCS / "cli.md", DOCS / "metrics.md"
MARKED = re.compile(r"(<!-- generated -->\n).*?(<!-- end of generated -->\n)", re.DOTALL)


def written() -> dict[Path, str]:
    """Return both pages as they have to be."""
    return {CLI: _between(CLI, cli()), METRICS: _between(METRICS, metrics())}


def _between(path: Path, text: str) -> str:
    return MARKED.sub(lambda found: found[1] + text + found[2], path.read_text("utf-8"))


def write() -> None:
    for path, text in written().items():
        path.write_text(text, "utf-8")


def cli() -> str:
    """Every command by its group, with all actions and options."""
    root = outline()
    known = {one.words[0]: one for one in root.actions}
    lines: list[str] = []
    for title, group in GROUPS:
        lines += ["", f"## {title}", "", "| command | does |", "|---|---|"]
        lines += [
            f"| [`gateway {one.name}`](#gateway-{one.name}) | {one.summary} |" for one in group
        ]
        for command in group:
            for one in known[command.name].walk():
                lines += _section(one)
    assert len(known) == len(COMMANDS)
    return "\n".join(lines) + "\n\n"


def _section(one: Outline) -> Iterator[str]:
    level = "###" if len(one.words) == 1 else "####"
    yield from ("", f"{level} `gateway {' '.join(one.words)}`", "")
    told = _escaped(one.description or one.summary)
    yield told[:1].upper() + told[1:] + ("" if told.endswith(".") else ".")
    yield from ("", f"    {one.usage}")
    if one.arguments:
        yield from ("", "| argument | meaning |", "|---|---|")
        yield from (f"| {_name(each)} | {_escaped(each.help)} |" for each in one.arguments)


def _name(one: Argument) -> str:
    value = one.value.replace("|", r"\|")
    if not one.flags:
        return f"`{value}`"
    return ", ".join(f"`{flag} {value}`" if value else f"`{flag}`" for flag in one.flags)


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", text % {"prog": "gateway"} if "%(" in text else text)


def metrics() -> str:
    """Every family that the gateway declares, by name."""
    rows = [
        (one.name, one.kind, ", ".join(f"`{label}`" for label in one.labels), one.help)
        for one in Telemetry().families
    ]
    rows.append(
        (
            SECONDS._name,
            SECONDS._type,
            ", ".join(f"`{label}`" for label in SECONDS._labelnames),
            SECONDS._documentation,
        )
    )
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in sorted(rows)
    ]
    return "\n".join(lines) + "\n"
