"""Files of credentials: TOML that people write by hand and the command line edits.

Owns reading, locking, editing and replacing such a file. What its tables mean belongs to
`api_keys`, `users` and `revocations`.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from gateway.config.toml.parse import loads_toml
from gateway.lifetime.watch import Stamp, stamp

T = TypeVar("T")
Document = MutableMapping[str, Any]


class CredentialError(ValueError):
    """Credentials in a file or store are missing, unreadable or invalid; the message says where."""


_loaded: dict[tuple[Path, Callable[[Path], Any]], tuple[Stamp, Any]] = {}


def load_once(path: Path, load: Callable[[Path], T]) -> tuple[Stamp, T]:
    """Return a file's stamp, from before it was read, and what `load` makes of it.

    A file that has not changed is not read again: a reload reads large ones in a thread, before
    what needs them is built. Raises what `load` does.
    """
    seen = stamp(path)
    known = _loaded.get((path, load))
    if known is None or known[0] != seen:
        known = _loaded[(path, load)] = seen, load(path)
    return known


def read(path: Path, kind: str = "file") -> str:
    """Return the file's text, without a byte order mark. Raises CredentialError.

    kind: what the message calls the file.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CredentialError(f"there is no {kind} {path}") from None
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CredentialError(f"cannot read {path}: it is not UTF-8") from None


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return what the TOML says. Raises CredentialError."""
    try:
        return loads_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise CredentialError(f"{path} is not TOML: {error}") from None


def tables(document: Document, name: str, path: Path) -> list[Document]:
    """Return the `[[name]]` tables of a document. Raises CredentialError for anything else."""
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise CredentialError(f"{path}: {name} must be an array of tables, [[{name}]]")
    return list(found)


def edit(
    path: Path,
    change: Callable[[Document], None],
    check: Callable[[str], object],
    opening: str = "",
) -> None:
    """Edit a file that `locked` gave: comments and layout stay, and it is replaced in one step.

    change: edits the document in place. It is called twice, for the layout and for the plain
        values; the file is replaced only if the edited text reads back as those values.
    check: raises CredentialError for a text, before or after, that its readers would refuse.
    opening: what a new file begins with; without it the file must exist.
    Raises CredentialError; the file is then as it was.
    """
    text = opening if opening and not path.exists() else read(path)
    check(text)
    meant = parse(text, path)
    change(meant)
    edited = _edited(text, change)
    if edited is None or parse(edited, path) != meant:
        raise CredentialError(f"{path} is laid out in a way that cannot be edited safely")
    check(edited)
    replace_file(path, edited)


def append(document: Document, name: str, table: dict[str, Any]) -> None:
    """Add one `[[name]]` table at the end of the others."""
    import tomlkit
    from tomlkit.items import AoT

    there = document.get(name)
    if not there:
        document[name] = [table]  # which tomlkit writes as [[name]]
        return
    if not isinstance(there, AoT):
        there.append(table)
        return
    added = tomlkit.table()
    added.update(table)
    added.add(tomlkit.nl())  # in front of what follows
    before = there[-1].as_string()
    if not before.endswith(("\n\n", "\r\n\r\n")):
        added.trivia.indent = "\n" if before.endswith("\n") else "\n\n"
    there.append(added)


def _edited(text: str, change: Callable[[Document], None]) -> str | None:
    """The text after `change`; None where tomlkit cannot edit a layout that tomllib can read."""
    import tomlkit  # only editing needs it: a gateway that serves never imports it

    try:
        document = tomlkit.parse(text)
        change(document)
        edited = tomlkit.dumps(document).rstrip() + "\n"
    except Exception:  # tomllib has read the text, so any error is a limit of tomlkit's
        return None
    return edited.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else edited


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Lock a file against other writers; give its real path, links followed.

    Raises CredentialError.
    """
    path = path.resolve()  # a rename onto a symbolic link would replace the link
    lock = path.with_name(f".{path.name}.lock")
    try:
        # The lock file stays: removing it would let two writers hold two different locks.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CredentialError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step: a crash or a full disk leaves the old one.

    Only its owner may read it, and its group where that is what the file, or its directory by the
    setgid bit, has been given to: a gateway that runs as another user. Raises CredentialError.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            _give_as_before(path, temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise CredentialError(f"cannot write {path}: {error.strerror}") from None


def _give_as_before(path: Path, temporary: Path) -> None:
    """Give the new file the owner and group of the old one, and let the group read it likewise."""
    with suppress(OSError):
        shared = is_shared(path.parent)
        if path.exists():
            before = path.stat()
            os.chown(temporary, before.st_uid, before.st_gid)  # root leaves it the gateway's
            # 0644 is how editors leave a file, and alone no decision to share it with its group.
            readable = bool(before.st_mode & stat.S_IRGRP)
            shared = readable and (shared or not before.st_mode & stat.S_IROTH)
        if shared:
            temporary.chmod(0o640)


def is_shared(directory: Path) -> bool:
    """Return True if the setgid bit gives what is made in a directory to its group."""
    return bool(directory.stat().st_mode & stat.S_ISGID)


def utc_time(unix: float) -> datetime:
    """Return Unix seconds as a date and time in UTC. Raises CredentialError past the year 9999."""
    try:
        return datetime.fromtimestamp(int(unix), UTC)
    except (ValueError, OverflowError, OSError):
        raise CredentialError(
            "expires too far in the future: the year must be 9999 or earlier"
        ) from None


def unix_time(value: date) -> float:
    """Return a date, or a date and time, as Unix seconds; one without an offset is UTC."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
