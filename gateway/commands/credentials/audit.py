"""Write what the command line changes to an audit log, in lines like the gateway's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.commands.credentials.key_places import configured
from gateway.credentials import audit
from gateway.credentials.files import CredentialError

Line = dict[str, Any]


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--audit FILE`."""
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="write what was done to this log; default: as --config says",
    )


def file_of(args: argparse.Namespace) -> Path | None:
    """Return the log: `--audit`, else the configuration's, or None. Raises CredentialError."""
    if args.audit is not None or args.config is None:
        return args.audit  # type: ignore[no-any-return]
    for auth, directory, _ in configured(args.config):
        if auth.audit is not None and auth.audit.file != "-":
            return directory / auth.audit.file
    return None


@contextmanager
def audited(path: Path | None, now: float) -> Iterator[list[Line]]:
    """Give a list of lines, and append them to the log if nothing went wrong.

    A log that cannot be opened fails before anything is done. Raises CredentialError.
    """
    lines: list[Line] = []
    if path is None:
        yield lines
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise CredentialError(f"cannot open the audit log {path}: {error.strerror}") from None
    try:
        yield lines
        for line in lines:  # a write each: other processes append to the same file
            os.write(descriptor, audit.line(now, line))
    finally:
        os.close(descriptor)
