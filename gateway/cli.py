"""The command line: parse arguments, run a command, return its exit code.

The commands themselves are in commands/catalogue.py.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from gateway.lifetime.signals import Signals, hold_standard_descriptors

READER_GONE = 128 + signal.SIGPIPE
"""The exit code of programs that SIGPIPE ends."""
USAGE = 2
"""The exit code for arguments that are none, as argparse has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    signals = Signals()
    if given[:1] == ["run"]:
        # Before anything else is imported or opened: signals may come at any time.
        hold_standard_descriptors()
        signals.install()
    try:
        try:
            return _command(given, signals)
        finally:
            if sys.stdout is not None:  # None where it was closed
                sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would write the buffer again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _command(given: list[str], signals: Signals) -> int:
    from gateway.commands.catalogue import COMMANDS, CommandError, parser_of, unknown

    if not given or given[0] in ("-h", "--help"):
        given = ["help"]
    name = given[0]
    if not name.startswith("-") and name not in COMMANDS:
        print(unknown(name), file=sys.stderr)
        return USAGE
    options = parser_of((name,)).parse_args(given, argparse.Namespace(signals=signals))
    try:
        code: int = options.run(options)
    except CommandError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return code
