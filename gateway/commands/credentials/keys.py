"""`gateway keys create|list|rotate|revoke`: API keys, on the command line.

A key is shown once, when it is made; only its hash is stored, in a file
(credentials/api_keys/key_file.py) or in Redis (redis_keys.py). Exit codes: 0 done, 1 not done (the
reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any, Literal

import orjson
from marshmallow import ValidationError

from gateway.commands.credentials import audit
from gateway.commands.credentials.key_places import KeyPlace, add_options, place_of, takes_limits
from gateway.config.tables.schema import parse_duration
from gateway.credentials import files
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.audit import operator
from gateway.credentials.files import CredentialError

ABOUT = "API keys: a key is shown once, when it is made; the file, or the store, keeps its hash."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    parser.description = ABOUT
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    _add_create(actions)
    listing = actions.add_parser(
        "list", help="show the keys there are, without the keys themselves"
    )
    listing.add_argument("--client", metavar="NAME", help="only this client's")
    listing.add_argument("--label", metavar="TEXT", help="only those with this in their label")
    _common(listing)
    _add_rotate(actions)
    revoke = actions.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("id", metavar="ID", help="the key, by its ID from list")
    _common(revoke)
    audit.add_option(revoke)


def _add_create(actions: argparse._SubParsersAction[Any]) -> None:
    create = actions.add_parser("create", help="make a key for a client and show it, this once")
    create.add_argument(
        "--client", required=True, metavar="NAME", help="whose requests it identifies"
    )
    create.add_argument("--tier", default="", help="the client's tier, for limits")
    create.add_argument(
        "--permissions",
        type=_words,
        default=(),
        metavar="A,B",
        help='what it may do, e.g. cameras:read,"users:*"',
    )
    create.add_argument("--roles", type=_words, default=(), metavar="A,B", help="its roles")
    create.add_argument(
        "--networks",
        type=_words,
        default=(),
        metavar="A,B",
        help="from where alone it may be used, e.g. 192.0.2.0/24",
    )
    create.add_argument(
        "--expires",
        metavar="WHEN",
        help="after a time (90d, 12h) or on a date (2027-01-31); default: never",
    )
    create.add_argument(
        "--limit",
        default="",
        metavar="LIMIT",
        help="of its own: a rate (100/1m) or a class, where rate_limit says key_limits = true",
    )
    create.add_argument("--label", default="", metavar="TEXT", help="a note for people")
    create.add_argument("--prefix", default="bec_", help="how the key begins (default: bec_)")
    create.add_argument(
        "--key",
        metavar="EXISTING",
        help='take over a key made elsewhere; "-" reads it from standard input',
    )
    _common(create)
    audit.add_option(create)


def _add_rotate(actions: argparse._SubParsersAction[Any]) -> None:
    rotate = actions.add_parser(
        "rotate", help="make a key that replaces another, which stays valid for a while"
    )
    _which(rotate, "the key to replace")
    rotate.add_argument(
        "--overlap",
        default="24h",
        metavar="TIME",
        help="how long the old one stays valid (default: 24h)",
    )
    rotate.add_argument(
        "--expires",
        metavar="WHEN",
        help="as for create, or never; default: as long as the old one was to live",
    )
    rotate.add_argument("--prefix", default="bec_", help="how the key begins (default: bec_)")
    _common(rotate)
    audit.add_option(rotate)


def run(args: argparse.Namespace, now: Callable[[], float] = time) -> int:
    """Does what the command line says. Returns the exit code."""
    actions = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke}
    try:
        moment = now()
        path = audit.file_of(args) if args.action != "list" else None
        with audit.audited(path, moment) as lines:
            place = place_of(args)
            changed = actions[args.action](args, place, moment)
            lines += [_line(outcome, key, place) for outcome, key in changed]
    except CredentialError as error:
        print(f"gateway keys {args.action}: {error}", file=sys.stderr)
        return 1
    return 0


def _common(parser: argparse.ArgumentParser) -> None:
    add_options(parser, "keys.toml", "key file")
    parser.add_argument("--json", action="store_true", help="for programs")


def _which(parser: argparse.ArgumentParser, what: str) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("id", nargs="?", metavar="ID", help=f"{what}, by its ID from list")
    group.add_argument(
        "--client", metavar="NAME", help=f"{what}, by its client, if that has only one in use"
    )


Changed = list[tuple[str, Key]]
"""What happened to which key, for the audit log."""


def _line(outcome: str, key: Key, place: KeyPlace) -> audit.Line:
    said = {
        "event": "key_change",
        "outcome": outcome,
        "key": key.id,
        "client": key.client,
        "by": operator() or None,
    }
    return {**said, "where": str(place)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _create(args: argparse.Namespace, place: KeyPlace, now: float) -> Changed:
    existing = args.key
    if existing == "-":  # arguments are seen by everybody on the machine (ps)
        existing = sys.stdin.readline().strip()
    wish = Wish(
        args.client,
        args.tier,
        args.permissions,
        args.roles,
        args.label,
        _moment(args.expires, now),
        args.networks,
        args.limit,
    )
    key, secret = place.create(wish, now, prefix=args.prefix, existing=existing)
    if key.limit and args.config is not None and not takes_limits(args.config):
        print(
            f"warning: the limit of {key.id} has no effect: no rate_limit says key_limits = true",
            file=sys.stderr,
        )
    if args.json:
        _print_json({**_facts(key, now), "key": secret})
        return [("created", key)]
    print(f"{key.id}: a key for {_described(key)}{_lasting(key)}")
    if existing is None:
        _show(secret, place)
    print(place.soon)
    return [("created", key)]


def _list(args: argparse.Namespace, place: KeyPlace, now: float) -> Changed:
    keys = [
        key
        for key in place.load()
        if args.client in (None, key.client) and (args.label or "") in key.label
    ]
    used = place.used()
    if args.json:
        _print_json([{**_facts(key, now), "last_used": _rfc3339(used.get(key.id))} for key in keys])
    elif not keys:
        print(f"no keys{f' of {args.client}' if args.client else ''} in {place}")
    else:
        for line in _table(keys, now, used):
            print(line)
    return []


def _rotate(args: argparse.Namespace, place: KeyPlace, now: float) -> Changed:
    id = args.id if args.id is not None else _only_key(place, args.client, now)
    overlap = _duration("--overlap", args.overlap)
    expires: float | Literal["same"] | None = (
        "same" if args.expires is None else _moment(args.expires, now)
    )
    new, secret, old = place.rotate(id, now, overlap=overlap, expires=expires, prefix=args.prefix)
    if args.json:
        _print_json({**_facts(new, now), "key": secret, "replaces": _facts(old, now)})
        return [("created", new), ("rotated", old)]
    print(f"{new.id}: a key for {_described(new)}{_lasting(new)}")
    _show(secret, place)
    print(f"{old.id}, which it replaces, {_ends(old, now)}.")
    print(place.soon)
    return [("created", new), ("rotated", old)]


def _revoke(args: argparse.Namespace, place: KeyPlace, now: float) -> Changed:
    key, changed = place.revoke(args.id, now)
    if args.json:
        _print_json(_facts(key, now))
    elif changed:
        print(f"{key.id} of {key.client} is revoked.")
        print(place.soon)
    else:
        print(f"{key.id} of {key.client} was revoked before.")
    return [("revoked", key)] if changed else []


def _only_key(place: KeyPlace, client: str, now: float) -> str:
    """The one key of a client that is in use and has not been replaced."""
    keys = [
        key
        for key in place.load()
        if key.client == client and key.state(now) == "active" and not key.replaced_by
    ]
    if not keys:
        raise CredentialError(f"{client} has no key in use in {place}")
    if len(keys) > 1:
        raise CredentialError(
            f"{client} has several keys in use: {', '.join(key.id for key in keys)}; say which"
        )
    return keys[0].id


def _moment(text: str | None, now: float) -> float | None:
    """Unix seconds of `--expires`; None for never."""
    if text is None or text == "never":
        return None
    try:
        moment = files.unix_time(datetime.fromisoformat(text))
    except ValueError:
        moment = now + _duration("--expires", text)
    if moment <= now:
        raise CredentialError(f"--expires {text}: that is past")
    return moment


def _duration(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValidationError:
        also = " or a date such as 2027-01-31" if option == "--expires" else ""
        raise CredentialError(
            f'{option} must be a duration such as "90d" or "12h"{also}, not {text!r}'
        ) from None


def _show(secret: str, place: KeyPlace) -> None:
    print(
        f"\n    {secret}\n\nThis is the only time it is shown: {place} holds nothing but its hash."
    )


def _described(key: Key) -> str:
    more = [
        f"tier {key.tier}" if key.tier else "",
        f"roles {_joined(key.roles)}" if key.roles else "",
    ]
    more.append(f"limit {key.limit}" if key.limit else "")
    more.append(f"from {', '.join(key.networks)} only" if key.networks else "")
    more.append(f"permissions {_joined(key.permissions)}" if key.permissions else "no permissions")
    return f"{key.client} ({'; '.join(part for part in more if part)})"


def _lasting(key: Key) -> str:
    return ", that never expires" if key.expires is None else f", that expires {_time(key.expires)}"


def _ends(key: Key, now: float) -> str:
    return (
        f"expired {_time(key.expires)}"
        if key.state(now) == "expired"
        else f"is valid until {_time(key.expires)}"
    )


def _time(unix: float | None) -> str:
    return "" if unix is None else f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def _joined(words: frozenset[str]) -> str:
    return ",".join(sorted(words))


def _table(keys: Sequence[Key], now: float, used: Mapping[str, int]) -> list[str]:
    rows = [
        (
            "ID",
            "CLIENT",
            "TIER",
            "KEY",
            "STATE",
            "EXPIRES",
            "LAST USED",
            "PERMISSIONS",
            "ROLES",
            "NETWORKS",
            "LIMIT",
            "LABEL",
        )
    ]
    for key in keys:
        state = key.state(now)
        rows.append(
            (
                key.id,
                key.client,
                key.tier,
                f"{key.hint}..." if key.hint else "",
                f"{state}, replaced by {key.replaced_by}" if key.replaced_by else state,
                _time(key.expires) or "never",
                _time(used.get(key.id)),
                _joined(key.permissions),
                _joined(key.roles),
                ",".join(key.networks),
                key.limit,
                key.label,
            )
        )
    filled = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in filled]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*filled, strict=True)
    ]


def _facts(key: Key, now: float) -> dict[str, Any]:
    """A key for programs: what the file holds but the hash, times in RFC 3339."""
    return {
        "id": key.id,
        "client": key.client,
        "tier": key.tier,
        "permissions": sorted(key.permissions),
        "roles": sorted(key.roles),
        "networks": list(key.networks),
        "limit": key.limit or None,
        "label": key.label,
        "hint": key.hint,
        "state": key.state(now),
        "created": _rfc3339(key.created),
        "expires": _rfc3339(key.expires),
        "replaced_by": key.replaced_by or None,
    }


def _rfc3339(unix: float | None) -> str | None:
    return None if unix is None else f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
