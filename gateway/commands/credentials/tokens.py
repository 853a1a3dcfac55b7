"""`gateway tokens revoke|list`: tokens that are refused before they expire.

They are listed in a file (credentials/revocations/revoked.py) or in Redis (redis_revocations.py).
Exit codes: 0 done, 1 not done (the reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Protocol

from marshmallow import ValidationError

from gateway.commands.credentials import audit
from gateway.commands.credentials.key_places import add_options, configured
from gateway.config.tables.schema import parse_duration
from gateway.credentials import files
from gateway.credentials.audit import operator
from gateway.credentials.files import CredentialError
from gateway.credentials.revocations import revoked as revocations
from gateway.credentials.revocations.revoked import ALWAYS, Revocation
from gateway.credentials.store_client import parsed
from gateway.store import stores

ABOUT = (
    "Tokens that are refused before they expire: by jti, by subject, or by when they were issued."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = ABOUT
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    revoke = actions.add_parser("revoke", help="refuse tokens from now on")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("--jti", default="", metavar="ID", help="one token, by its jti")
    which.add_argument(
        "--subject",
        default="",
        metavar="NAME",
        help="all of a subject's that were issued until now",
    )
    which.add_argument("--everybody", action="store_true", help="all that were issued until now")
    revoke.add_argument("--issuer", default="", metavar="URL", help="of this issuer alone")
    revoke.add_argument(
        "--before", metavar="WHEN", help="issued before this date and time instead of until now"
    )
    revoke.add_argument(
        "--for",
        dest="lasting",
        metavar="TIME",
        help="how long tokens live at most: the entry can go after that",
    )
    audit.add_option(revoke)
    listing = actions.add_parser("list", help="show what is revoked")
    for one in (revoke, listing):
        add_options(one, "revoked.toml", "list")


def run(args: argparse.Namespace, now: Callable[[], float] = time) -> int:
    """Does what the command line says. Returns the exit code."""
    try:
        place = _place(args)
        if args.action == "revoke":
            moment = now()
            entry = _entry(args, moment)
            with audit.audited(audit.file_of(args), moment) as lines:
                place.add(entry, moment)
                lines.append(_line(entry, place))
            print(f"Revoked in {place}: {_described(entry)}. {place.soon}.")
        else:
            print("\n".join(map(_described, place.load())) or f"nothing is revoked in {place}")
    except CredentialError as error:
        print(f"gateway tokens {args.action}: {error}", file=sys.stderr)
        return 1
    return 0


class RevocationPlace(Protocol):
    """A list somewhere; `str()` of it says where. Everything raises CredentialError."""

    soon: str

    def add(self, entry: Revocation, now: float) -> None: ...

    def load(self) -> tuple[Revocation, ...]: ...


class FileRevocations:
    """The list of a file."""

    soon = "A gateway that is running with this file takes it within a second"

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def add(self, entry: Revocation, now: float) -> None:
        revocations.add(self._path, entry)

    def load(self) -> tuple[Revocation, ...]:
        return revocations.load(self._path)


def _place(args: argparse.Namespace) -> RevocationPlace:
    if args.config is None:
        return _store(args.store) if args.store is not None else FileRevocations(args.file)
    found: dict[str, RevocationPlace] = {}
    for auth, directory, shared in configured(args.config):
        if auth.revocations:
            said = shared if auth.revocations == "redis" else auth.revocations
            place = _store(said) if stores.is_url(said) else FileRevocations(directory / said)
            found[str(place)] = place
    if len(found) != 1:
        where = (
            f"lists them in {' and '.join(sorted(found))}; say which"
            if found
            else "has no list of revoked tokens"
        )
        raise CredentialError(f"{args.config} {where}")
    return found.popitem()[1]


def _store(url: str) -> RevocationPlace:
    from gateway.credentials.revocations.redis_revocations import RedisRevocations

    return RedisRevocations(parsed(url))


def _entry(args: argparse.Namespace, now: float) -> Revocation:
    before = ALWAYS if args.jti else float(int(now) + 1)
    try:
        if args.before is not None:
            before = files.unix_time(datetime.fromisoformat(args.before))
        until = None if args.lasting is None else now + parse_duration(args.lasting)
    except (ValidationError, ValueError):
        raise CredentialError(
            '--before must be a date such as 2027-01-31, --for a duration such as "24h"'
        ) from None
    return Revocation(args.jti, args.subject, args.issuer, before, until)


def _line(entry: Revocation, place: RevocationPlace) -> audit.Line:
    said = {"event": "token_revocation", "outcome": "revoked", "what": _described(entry)}
    return {**said, "by": operator() or None, "where": str(place)}


def _described(entry: Revocation) -> str:
    what = (
        f"the token {entry.jti}"
        if entry.jti
        else f"tokens of {entry.subject}"
        if entry.subject
        else "everybody's tokens"
    )
    issuer = f" from {entry.issuer}" if entry.issuer else ""
    before = f" issued before {_time(entry.before)}" if entry.before != ALWAYS else ""
    return f"{what}{issuer}{before}" + (
        f", until {_time(entry.until)}" if entry.until is not None else ""
    )


def _time(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
