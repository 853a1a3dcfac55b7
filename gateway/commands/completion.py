"""`gateway completion bash|zsh|fish`: a script that completes commands, options and files.

The scripts hold all words, so that completing starts no program. In each, `at` is the command that
has been typed so far, such as "keys create".
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from gateway.commands.outline import Argument, Outline, outline

HOW = {
    "bash": "source <(gateway completion bash)",
    "zsh": "source <(gateway completion zsh)",
    "fish": "gateway completion fish | source",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Completion for a shell. In its startup file: " + "; ".join(HOW.values())
    parser.add_argument("shell", choices=tuple(HOW), help="the shell it is for")


def run(options: argparse.Namespace) -> int:
    make = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell]
    print("\n".join(make(outline())))
    return 0


def bash(root: Outline) -> Iterator[str]:
    """Yield the lines of the script for bash."""
    yield "# bash completion for gateway"
    yield "_gateway() {"
    yield "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= words= i"
    yield "  for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '    case "$at ${COMP_WORDS[i]}" in'
    yield from (f'      "{_above(one)}") at="{_at(one)}" ;;' for one in _below(root))
    yield "    esac"
    yield "  done"
    yield '  case "$at $prev" in'
    for one, option in _valued(root):
        words = f'-W "{" ".join(option.choices)}"' if option.choices else "-f"
        found = f'$(compgen {words} -- "$cur")' if option.choices or option.is_file else ""
        patterns = "|".join(f'"{_at(one)} {flag}"' for flag in option.flags)
        yield f"    {patterns}) COMPREPLY=({found}); return ;;"
    yield "  esac"
    yield '  case "$at" in'
    for one in root.walk():
        files = ' COMPREPLY=($(compgen -f -- "$cur"))' if _takes_file(one) else " COMPREPLY=()"
        yield f'    "{_at(one)}") words="{" ".join(_words(one))}";{files} ;;'
    yield "  esac"
    yield '  COMPREPLY+=($(compgen -W "$words" -- "$cur"))'
    yield "}"
    yield "complete -F _gateway gateway"


def zsh(root: Outline) -> Iterator[str]:
    """Yield the lines of the script for zsh."""
    yield "#compdef gateway"
    yield "_gateway() {"
    yield "  local at word prev=${words[CURRENT-1]}"
    yield "  local -a found"
    yield "  for word in ${words[2,CURRENT-1]}; do"
    yield '    case "$at $word" in'
    yield from (f'      ("{_above(one)}") at="{_at(one)}" ;;' for one in _below(root))
    yield "    esac"
    yield "  done"
    yield '  case "$at $prev" in'
    for one, option in _valued(root):
        offer = f"compadd {' '.join(option.choices)}; " if option.choices else ""
        offer = "_files; " if option.is_file else offer
        patterns = "|".join(f'"{_at(one)} {flag}"' for flag in option.flags)
        yield f"    ({patterns}) {offer}return ;;"
    yield "  esac"
    yield '  case "$at" in'
    for one in root.walk():
        told = " ".join(_quoted(f"{word}:{help}") for word, help in _words(one).items())
        yield f'    ("{_at(one)}") found=({told}){"; _files" if _takes_file(one) else ""} ;;'
    yield "  esac"
    yield "  _describe gateway found"
    yield "}"
    yield 'if [[ $funcstack[1] == _gateway ]]; then _gateway "$@"'
    yield "else compdef _gateway gateway; fi"


def fish(root: Outline) -> Iterator[str]:
    """Yield the lines of the script for fish."""
    yield "# fish completion for gateway"
    yield "function __gateway_at"
    yield "    set -l at ''"
    yield "    set -l typed (commandline -opc)"
    yield "    for word in $typed[2..]"
    yield '        switch "$at $word"'
    for one in _below(root):
        yield f"            case '{_above(one)}'"
        yield f"                set at '{_at(one)}'"
    yield "        end"
    yield "    end"
    yield '    test "$at" = "$argv"'
    yield "end"
    yield "complete -c gateway -f"
    for one in root.walk():
        where = f"complete -c gateway -n '__gateway_at {_at(one)}'"
        for action in one.actions:
            yield f"{where} -a {action.words[-1]} -d {_quoted(action.summary)}"
        for argument in one.arguments:
            named = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in argument.flags
            )
            takes = "-r -F" if argument.is_file else "-x" if argument.value and named else ""
            words = f"-a '{' '.join(argument.choices)}'" if argument.choices else ""
            if named or words or argument.is_file:
                parts = (where, named, takes, words, "-d", _quoted(argument.help))
                yield " ".join(filter(None, parts))


def _at(one: Outline) -> str:
    return " ".join(one.words)


def _above(one: Outline) -> str:
    """Return what has been typed when its name is the next word, and that word."""
    return f"{' '.join(one.words[:-1])} {one.words[-1]}"


def _below(root: Outline) -> Iterator[Outline]:
    return (one for one in root.walk() if one.words)


def _valued(root: Outline) -> Iterator[tuple[Outline, Argument]]:
    """Yield the options that take a value."""
    for one in root.walk():
        for argument in one.arguments:
            if argument.flags and argument.value:
                yield one, argument


def _words(one: Outline) -> dict[str, str]:
    """Return the words that may come next, and what each is."""
    found = {action.words[-1]: action.summary for action in one.actions}
    for argument in one.arguments:
        if argument.flags:
            found[argument.flags[-1]] = argument.help
        found |= dict.fromkeys(() if argument.flags else argument.choices, argument.help)
    return {**found, "--help": "what there is"}


def _takes_file(one: Outline) -> bool:
    return any(argument.is_file and not argument.flags for argument in one.arguments)


def _quoted(text: str) -> str:
    """Return text as one word of a shell."""
    return "'" + text.replace("'", "’") + "'"
