"""Read `gateway.toml` and what it includes into documents: data with variables put in, and places.

No table's meaning is known here, except that `include` names files and that a file with any of
PIPELINE_KEYS is a pipeline.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from gateway.config.tables.server import GatewayConfig
from gateway.config.toml.parse import MAX_DEPTH, loads_toml, nests_too_deeply
from gateway.config.toml.positions import KeyPath, Place, positions, syntax_error
from gateway.config.toml.problems import Problem, Problems, Severity, shown_path
from gateway.config.toml.sources import FileTable, Outside, Sources
from gateway.config.toml.syntax import explain

PIPELINE_KEYS = frozenset(("name", "request", "response", "error", "route", "openapi"))

_OPENING = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-|\}))?")
"""`$${`, or the beginning of a variable: `${NAME}`, `${NAME:-` before its default, or a wrong `${`.
"""
_DEFAULT = re.compile(r"\$\$\{|\$\{|\}")
_BARE_VARIABLE = re.compile(r"(?<!\$)\$[A-Za-z_][A-Za-z0-9_]*")
_SYNTAX = "write ${NAME} or ${NAME:-default}; $${ is a literal ${"
_MAY_HOLD_UPSTREAMS = re.compile(r"^\s*(\[\s*)?[\"']?upstream[\"']?\s*(\.|=\s*\{)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One TOML file. `undefined`: strings whose variables are missing; reported, and not judged
    again. `faulty`: what errors were reported of."""

    file: Path
    problems: Problems
    data: dict[str, Any] = field(default_factory=dict)
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    undefined: set[KeyPath] = field(default_factory=set)
    faulty: set[KeyPath] = field(default_factory=set)
    sources: Sources | None = None

    def read(self, name: str) -> bytes:
        """Return another file's bytes; its path is relative to this one. Raises OSError."""
        path = _absolute(self.file.parent / name)
        return path.read_bytes() if self.sources is None else self.sources.read(path)

    def depth(self, path: KeyPath) -> int:
        """Return how many keys of the path, from its start, are written in this document."""
        while path and path not in self.places:
            path = path[:-1]
        return len(path)

    def place(self, path: KeyPath) -> Place:
        """Return the place of `path`, or of the nearest table around it."""
        return self.places.get(path[: self.depth(path)], (1, 1))

    def error(self, path: KeyPath, message: str, hint: str = "") -> None:
        if path not in self.undefined:
            self.faulty.add(path)
            self.problem(self.place(path), message, hint)

    def warning(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problem(self.place(path), message, hint, "warning")

    def problem(
        self, place: Place, message: str, hint: str = "", severity: Severity = "error"
    ) -> None:
        self.problems.add(Problem(self.file, *place, message, hint, severity))


@dataclass(slots=True)
class Tree:
    """Everything read. `gateway` is None when gateway.toml could not be read.

    upstreams_known: False when a file that may hold upstreams could not be read, so that a missing
        upstream proves nothing.
    """

    problems: Problems
    sources: Sources
    gateway: Document | None = None
    upstreams: list[Document] = field(default_factory=list)
    pipelines: list[Document] = field(default_factory=list)
    upstreams_known: bool = True


def read_tree(path: Path, environ: Mapping[str, str]) -> Tree:
    """Read `gateway.toml` at `path` and its includes. Never raises for their faults: see
    `problems`."""
    main = _absolute(path)
    tree = Tree(Problems(), Sources(environ))
    gateway = tree.gateway = _read(main, tree, "`gateway init` makes one; --config FILE is another")
    if gateway is None:
        return tree
    seen = {main}
    for file in _included(gateway, tree):
        if file in seen:
            continue
        seen.add(file)
        document = _read(file, tree)
        if document is not None:
            (tree.pipelines if PIPELINE_KEYS & document.data.keys() else tree.upstreams).append(
                document
            )
    return tree


def _included(gateway: Document, tree: Tree) -> Iterator[Path]:
    """Yield the files of `include`, each entry's in sorted order. Only its default may match
    nothing."""
    written = gateway.data.get("include")
    patterns = GatewayConfig().include if written is None else written
    if isinstance(patterns, Outside):
        patterns = patterns.items()
    for index, pattern in enumerate(patterns if isinstance(patterns, list | tuple) else ()):
        if not isinstance(pattern, str) or not pattern or ("include", index) in gateway.undefined:
            continue
        place = ("include", index)
        if "\0" in pattern:
            gateway.error(place, f"{pattern!r} is no path")
            continue
        root = gateway.file.parent
        if has_magic(pattern):
            for folder, reason in _unlisted(root, pattern):
                gateway.error(
                    place, f"{pattern!r}: the folder {shown_path(folder)} cannot be read: {reason}"
                )
                tree.upstreams_known = False
            # Path.glob takes no absolute pattern, and would find hidden files.
            files = sorted(glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207
            if not files and written is not None:
                gateway.warning(place, f"{pattern!r} matches no file")
        else:
            files = [pattern] if written is not None or os.path.lexists(root / pattern) else []
        for file in files:
            included = _absolute(root / file)
            reason = _not_a_file(included)
            if not reason:
                yield included
            elif not has_magic(pattern) or not included.is_dir():
                gateway.error(place, f"the included file {file!r} {reason}")
                tree.upstreams_known = False


def _unlisted(root: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield folders in which a glob pattern looks but that cannot be listed, and why.

    `glob` passes over them. A folder that does not exist matches nothing; the caller decides what
    that means.
    """
    parts = Path(pattern).parts
    for depth, part in enumerate(parts):
        if not has_magic(part):
            continue
        above = str(Path(*parts[:depth]))
        for folder in glob(above, root_dir=root, recursive=True) if has_magic(above) else [above]:  # noqa: PTH207
            errors: list[OSError] = []
            for _, below, _ in os.walk(root / folder, onerror=errors.append):
                if part != "**":
                    below.clear()
            for error in errors:
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    yield Path(error.filename), str(error.strerror)


def _not_a_file(path: Path) -> str:
    """Return why `path` is not a file that can be read, "" when it is one."""
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "is not a file"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _absolute(path: Path) -> Path:
    """Return the path without "..", but with symbolic links: deployments swap those."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read(file: Path, tree: Tree, absent: str = "") -> Document | None:
    """Read one file; report it and return None when it is not TOML that can be read.

    absent: a hint for one that is not there.
    """
    broken = Document(file, tree.problems)
    try:
        raw = tree.sources.read(file)
    except OSError as error:
        tree.upstreams_known = False
        hint = absent if isinstance(error, FileNotFoundError) else ""
        broken.problem((1, 1), f"cannot be read: {error.strerror}", hint)
        return None
    try:
        text = raw.decode("utf-8-sig")  # some editors put a byte order mark in front
        data = loads_toml(text)
        document = Document(file, tree.problems, data, _places(text), sources=tree.sources)
        data.update(_resolved(data, (), document, tree.sources))
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        text = raw.decode(errors="replace")
        broken.problem((before.count("\n") + 1, len(before) - before.rfind("\n")), "is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        place, message = syntax_error(error, text)
        broken.problem(place, *explain(message, text, place))
    else:
        return document
    if _MAY_HOLD_UPSTREAMS.search(text):
        tree.upstreams_known = False
    return None


def _places(text: str) -> Mapping[KeyPath, Place]:
    try:
        return positions(text)
    except RecursionError:
        pass
    raise nests_too_deeply(text)


def _resolved(value: Any, path: KeyPath, document: Document, sources: Sources) -> Any:
    """Return the value with variables put in and each `{ file = "..." }` ready to be read."""
    if len(path) > MAX_DEPTH:
        document.error(path, f"nests more than {MAX_DEPTH} levels deep")
        return None
    if isinstance(value, str):
        if "$" in value:
            _warn_of_bare_variables(value, path, document, sources)
        return _interpolated(value, path, document, sources) if "${" in value else value
    if isinstance(value, list):
        return [
            _resolved(item, (*path, index), document, sources) for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    table = {key: _resolved(item, (*path, key), document, sources) for key, item in value.items()}
    if table.keys() == {"file"} and isinstance(table["file"], str):
        return FileTable(table, document.file.parent, sources)
    return table


def _warn_of_bare_variables(text: str, path: KeyPath, document: Document, sources: Sources) -> None:
    """Warn of `$NAME` in a URL, or with the name of a variable.

    It may be part of a password, so the message does not show it.
    """
    found = _BARE_VARIABLE.findall(text)
    if found and ("://" in text or any(sources.has(name[1:]) for name in found)):
        hint = "write ${NAME}; in a URL, %24 is the sign itself"
        document.warning(
            path, "a name after '$' is no variable without braces: it stays as it is", hint
        )


def _interpolated(text: str, path: KeyPath, document: Document, sources: Sources) -> str:
    """Put in `${NAME}`, and `${NAME:-default}` when NAME is unset or empty, as in a shell.

    `$${` is a literal `${`. A default may hold variables of its own.
    """
    reader = _Variables(text, path, document, sources)
    result = reader.read()
    return Outside(result, text) if reader.outside else result


class _Variables:
    """Puts the variables into one string. `outside`: whether there was one."""

    def __init__(self, text: str, path: KeyPath, document: Document, sources: Sources) -> None:
        self.text = text
        self.path = path
        self.document = document
        self.sources = sources
        self.outside = False

    def read(self) -> str:
        return self._replaced(self.text, depth=0)

    def _replaced(self, text: str, depth: int) -> str:
        made, at = [], 0
        while (found := _OPENING.search(text, at)) is not None:
            made.append(text[at : found.start()])
            at = found.end()
            if found["escaped"]:
                made.append("${")
                continue
            self.outside = True
            default = None
            if found["or"] == ":-":
                end = self._end(text, at)
                if end is not None:
                    default, at = text[at:end], end + 1
            if found["name"] is None or (found["or"] == ":-" and default is None):
                self._undefined("'${' is not followed by a name and '}'", _SYNTAX)
            else:
                made.append(self._value(found["name"], default, depth))
        return "".join(made) + text[at:]

    def _value(self, name: str, default: str | None, depth: int) -> str:
        value = self.sources.variable(name)
        if not value and default is not None:
            if depth < MAX_DEPTH:
                return self._replaced(default, depth + 1)
            self._undefined("its defaults nest too deeply", "")
            return ""
        if value is None:
            self._undefined(
                f"the environment has no {name}", f"set it, or write ${{{name}:-default}}"
            )
        return value or ""

    @staticmethod
    def _end(text: str, at: int) -> int | None:
        """Return where the brace is that closes a default which begins at `at`."""
        open_ = 1
        for found in _DEFAULT.finditer(text, at):
            open_ += {"${": 1, "}": -1}.get(found[0], 0)
            if not open_:
                return found.start()
        return None

    def _undefined(self, message: str, hint: str) -> None:
        self.document.problem(self.document.place(self.path), message, hint)
        self.document.undefined.add(self.path)
