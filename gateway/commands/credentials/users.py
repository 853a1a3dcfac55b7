"""`gateway users add|list|passwd|totp|logout|remove`: users, for Basic and for our own tokens.

A password is read from standard input, never from the command line. Exit codes: 0 done, 1 not done
(the reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from time import time
from typing import Any

import orjson

from gateway.commands.credentials.key_places import add_options
from gateway.commands.credentials.user_places import UserPlace, place_of
from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.issuer import totp

ABOUT = "Users with hashed passwords: for Basic authentication, and for the gateway's own tokens."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = ABOUT
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a user; the password is read from standard input")
    add.add_argument("name", metavar="NAME", help="who logs in")
    add.add_argument(
        "--client",
        default="",
        metavar="NAME",
        help="the client this makes the caller; default: the name",
    )
    add.add_argument("--tier", default="", help="the client's tier, for limits")
    add.add_argument("--roles", default="", metavar="A,B", help="its roles")
    add.add_argument(
        "--permissions",
        default="",
        metavar="A,B",
        help='what it may do, e.g. cameras:read,"users:*"',
    )
    listing = actions.add_parser("list", help="show the users there are, without their hashes")
    listing.add_argument("--json", action="store_true", help="for programs")
    passwd = actions.add_parser(
        "passwd", help="give a user another password, read from standard input; sessions end"
    )
    second = actions.add_parser(
        "totp", help="give a user a second factor, and show its secret, this once"
    )
    second.add_argument(
        "--issuer",
        default="gateway",
        metavar="NAME",
        help="what authenticators call it (default: gateway)",
    )
    second.add_argument("--remove", action="store_true", help="take it away instead")
    logout = actions.add_parser("logout", help="end all sessions of a user")
    remove = actions.add_parser("remove", help="take a user out; sessions end")
    for one in (passwd, second, logout, remove):
        one.add_argument("name", metavar="NAME", help="who logs in")
    for one in (add, listing, passwd, second, logout, remove):
        add_options(one, "users.toml", "user file")


def run(args: argparse.Namespace, now: Callable[[], float] = time) -> int:
    """Does what the command line says. Returns the exit code."""
    actions = {
        "add": _add,
        "list": _list,
        "passwd": _passwd,
        "totp": _totp,
        "logout": _logout,
        "remove": _remove,
    }
    try:
        actions[args.action](args, place_of(args), now())
    except CredentialError as error:
        print(f"gateway users {args.action}: {error}", file=sys.stderr)
        return 1
    return 0


def _add(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    password = _password(place, args.name)
    place.add(
        User(
            args.name,
            user_file.hashed(password),
            args.client,
            args.tier,
            _words(args.roles),
            _words(args.permissions),
        )
    )
    print(f"{args.name} is in {place}. {place.soon}")


def _list(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    users = place.load().values()
    if args.json:
        print(orjson.dumps([_facts(user) for user in users], option=orjson.OPT_INDENT_2).decode())
        return
    rows = [[str(value or "") for value in _shown(user)] for user in users]
    rows.insert(
        0, ["NAME", "CLIENT", "TIER", "ROLES", "PERMISSIONS", "SECOND FACTOR", "SESSIONS SINCE"]
    )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if users else [[f"no users in {place}"]]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        )


def _passwd(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    user = _user(args.name, place)
    _change(
        place,
        user,
        user_edits.at(replace(user, hash=user_file.hashed(_password(place, user.name))), now),
    )
    print(f"{user.name} has another password; sessions that began before have ended. {place.soon}")


def _totp(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    user = _user(args.name, place)
    if args.remove:
        if not user.totp:
            raise CredentialError(f"{user.name} has no second factor")
        _change(place, user, replace(user, totp=""))
        print(f"{user.name} has no second factor any more. {place.soon}")
        return
    if user.totp:
        remove = f"gateway users totp {user.name} --remove"
        raise CredentialError(f"{user.name} has a second factor; take that away first: {remove}")
    secret = totp.new_secret()
    _change(place, user, replace(user, totp=secret))
    print(f"{user.name} needs a code with the password from now on. {place.soon}")
    print(f"\n    {secret}\n    {totp.uri(secret, user.name, args.issuer)}\n")
    print("This is for an authenticator, and the only time it is shown.")


def _logout(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    user = _user(args.name, place)
    _change(place, user, user_edits.at(user, now))
    print(f"The sessions of {user.name} that began before now have ended. {place.soon}")


def _remove(args: argparse.Namespace, place: UserPlace, now: float) -> None:
    place.remove(args.name)
    print(f"{args.name} is no longer in {place}. {place.soon}")


def _user(name: str, place: UserPlace) -> User:
    user = place.load().get(name)
    if user is None:
        raise CredentialError(f"{place} has no user {name}")
    return user


def _change(place: UserPlace, old: User, new: User) -> None:
    if not place.change(old, new):
        raise CredentialError(f"{old.name} is being changed by another process; try again")


def _password(place: UserPlace, name: str) -> str:
    """A password that will do, from standard input. Raises CredentialError."""
    try:
        password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        password.encode()
    except UnicodeError:
        raise CredentialError("the password is not UTF-8") from None
    if not password:
        raise CredentialError("no password was given")
    if problem := place.policy.problem(password, name):
        raise CredentialError(f"the password {problem}")
    return password


def _facts(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "client": user.client,
        "tier": user.tier,
        "roles": sorted(user.roles),
        "permissions": sorted(user.permissions),
        "second_factor": bool(user.totp),
        "sessions_since": f"{datetime.fromtimestamp(user.changed, UTC):%Y-%m-%dT%H:%M:%SZ}"
        if user.changed
        else None,
    }


def _shown(user: User) -> list[Any]:
    facts = _facts(user)
    facts |= {"roles": ",".join(facts["roles"]), "permissions": ",".join(facts["permissions"])}
    facts["second_factor"] = "yes" if user.totp else ""
    return list(facts.values())


def _words(text: str) -> frozenset[str]:
    return frozenset(word for part in text.split(",") if (word := part.strip()))
