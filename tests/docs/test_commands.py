"""Every `gateway ...` of the documentation is a command that there is, with options it has."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands.catalogue import parser_of
from gateway.commands.outline import Outline, outline
from tests.docs.pages import INLINE, PAGES, fenced, name_of, prose, text_of

COMMAND = re.compile(r"^(?:\$ )?(?:bin/)?gateway (?P<rest>[a-z-].*)$")
SHELLS = ("", "console", "sh", "bash", "text", "shell")
CUT = re.compile(r"\s(?:#|\||&|>|<|;|&&)(?:\s|$).*$|  +.*$")
"""What follows a command in a line of a shell, or of output."""
KNOWN = {one.words: one for one in outline().walk()}


def lines(page: Path) -> Iterator[str]:
    """The commands of a page's blocks, whole, without comments and pipes."""
    blocks = [snippet.text for snippet in fenced(page) if snippet.kind in SHELLS]
    indented = re.findall(r"^    (.+)$", text_of(page), re.MULTILINE)
    for line in (*"\n".join(blocks).splitlines(), *indented):
        found = COMMAND.match(line.strip())
        if found:
            yield CUT.sub("", f"{found['rest']} ").strip()


def inline(page: Path) -> Iterator[str]:
    """Commands in a sentence, which may have placeholders or be cut short."""
    for code in INLINE.findall(prose(page)):
        found = COMMAND.match(code)
        if found:
            yield found["rest"]


def parsed(words: list[str]) -> None:
    """Raises ValueError for what the command line would refuse."""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(self: argparse.ArgumentParser, message: str) -> None:
            raise ValueError(message)

        patch.setattr(argparse.ArgumentParser, "error", refuse)
        parser_of(words[:1]).parse_args(words)


def named(words: list[str]) -> Outline | None:
    """The command or action that words begin with."""
    for length in (2, 1):
        if (found := KNOWN.get(tuple(words[:length]))) is not None:
            return found
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_blocks_are_taken(page: Path):
    wrong = []
    for line in lines(page):
        words = shlex.split(line)
        if "[-h]" in words or any("|" in word for word in words):
            continue  # the usage in docs/cli.md, and several commands in one
        try:
            parsed(words)
        except ValueError as error:
            wrong.append(f"gateway {line}: {error}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist(page: Path):
    wrong = []
    for code in inline(page):
        words = code.split()
        found = named(words)
        flags = {word.partition("=")[0] for word in re.findall(r"--[a-z-]+", code)}
        if found is None:
            wrong.append(code)
        elif flags - {
            flag for one in found.walk() for each in one.arguments for flag in each.flags
        }:
            wrong.append(f"{code}: has no {flags}")
    assert wrong == []


def test_there_are_many():
    assert sum(1 for page in PAGES for _ in lines(page)) >= 15
    assert sum(1 for page in PAGES for _ in inline(page)) >= 30


@pytest.mark.parametrize(
    "line", ["check --jsn", "stauts", "keys", "drain becamera", "completion tcsh"]
)
def test_what_is_wrong_is_found(line: str):
    with pytest.raises(ValueError):
        parsed(line.split())
