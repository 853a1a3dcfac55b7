"""`gateway users add NAME`: users of Basic authentication. The password is read from standard input, never from the command line.

Exit codes: 0 done, 1 not done (the reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from gateway.state import userfile
from gateway.state.userfile import User, UserFileError


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds `users` to the gateway's command line; what it parses has `run` as its attribute of that name."""
    users = subparsers.add_parser("users", help="add users for Basic authentication", description="Users, with hashed passwords.")
    users.set_defaults(run=run)
    actions = users.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a user; the password is read from standard input")
    add.add_argument("name", metavar="NAME", help="who logs in")
    add.add_argument("--client", default="", metavar="NAME", help="the client this makes the caller; default: the name")
    add.add_argument("--tier", default="", help="the client's tier, for limits")
    add.add_argument("--roles", default="", metavar="A,B", help="its roles")
    add.add_argument("--permissions", default="", metavar="A,B", help='what it may do, e.g. cameras:read,"users:*"')
    add.add_argument("--file", type=Path, default=Path("users.toml"), help="the user file (default: users.toml)")


def run(args: argparse.Namespace) -> int:
    """Does what the command line says. Returns the exit code."""
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        if not password:
            raise UserFileError("no password was given")
        user = User(args.name, "", args.client, args.tier, _words(args.roles), _words(args.permissions))
        userfile.add(args.file, user, password)
    except UserFileError as error:
        print(f"gateway users add: {error}", file=sys.stderr)
        return 1
    print(f"{args.name} is in {args.file}. A gateway that is running with this file takes it within a second.")
    return 0


def _words(text: str) -> frozenset[str]:
    return frozenset(word for part in text.split(",") if (word := part.strip()))
