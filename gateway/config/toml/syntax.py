"""Say in operators' words what is wrong with a text that is no TOML, with a hint. Pure.

No hint shows a value: it may be a secret that lacks its quotes.
"""

from __future__ import annotations

import re

from gateway.config.toml.positions import Place

QUOTES = 'text, durations, sizes and addresses stand in quotes, as in key = "30s"'
INLINE = "an inline table { } stands in one line, without a comma at its end; or write [NAME]"
_DECLARED = re.compile(r"Cannot declare \((.*)\) twice")
_BOOLEAN = re.compile(r"(true|yes|on|false|no|off)\b", re.IGNORECASE)
_TRUE = ("true", "yes", "on")


def explain(message: str, text: str, place: Place) -> tuple[str, str]:
    """Return the message and a hint. message: tomllib's, without the place."""
    line, column = place
    lines = text.splitlines() or [""]
    whole = lines[min(line, len(lines)) - 1]
    rest = whole[column - 1 :].strip()
    if found := _DECLARED.match(message):
        name = ".".join(re.findall(r"'([^']*)'", found[1]))
        return f"[{name}] is there twice", f"put all its keys in one place; a list has [[{name}]]"
    if message.startswith("Cannot overwrite a value"):
        return "the key is there twice", "keep one of them"
    return f"not TOML: {message[:1].lower()}{message[1:]}", _hint(message, whole, rest)


def _hint(message: str, line: str, rest: str) -> str:
    if message.startswith("Expected '=' after a key"):
        return _no_equals(line)
    if message.startswith("Invalid value"):
        return _no_value(rest)
    if message.startswith("Expected newline"):
        return "leave the semicolon out" if rest.startswith(";") else QUOTES
    if message == "Unclosed inline table" or (
        message.startswith("Invalid initial") and "{" in line
    ):
        return INLINE
    if message.startswith("Unclosed array"):
        return "a bracket ] or a comma is missing before this"
    if message.startswith("Expected ']'"):
        return "a header is [NAME], or [[NAME]] for one of several tables"
    if message.startswith("Unescaped"):
        return "text with backslashes stands in single quotes"
    if message.startswith("Invalid statement"):
        return _no_statement(line.strip())
    return ""


def _no_equals(line: str) -> str:
    if line.rstrip().endswith("{"):
        return "a table begins with its header, [NAME], and has no braces around it"
    return "write key = value"


def _no_value(rest: str) -> str:
    if found := _BOOLEAN.match(rest):
        return f"write {'true' if found[1].lower() in _TRUE else 'false'}"
    if rest[:1] in ("\N{LEFT DOUBLE QUOTATION MARK}", "\N{LEFT SINGLE QUOTATION MARK}"):
        return 'use plain quotes: "'
    return "a value is missing" if not rest or rest[0] in ",#" else QUOTES


def _no_statement(line: str) -> str:
    if line.startswith(("//", "/*", ";", "--")):
        return "comments begin with #"
    if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
        return "a merge conflict is left in this file"
    return "the key is missing" if line.startswith("=") else ""
