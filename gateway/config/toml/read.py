"""Reads `gateway.toml` and what it includes into documents: data with the environment put in, and where everything stands.

No table's meaning is known here, except that `include` names files and that a file with any of PIPELINE_KEYS is a pipeline.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from gateway.config.tables.server import GatewayConfig
from gateway.config.toml.positions import KeyPath, Place, positions, syntax_error
from gateway.config.toml.problems import Problem, Problems, Severity
from gateway.config.toml.sources import FileTable, Outside, Sources

PIPELINE_KEYS = frozenset(("name", "request", "response", "error", "route"))

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")
_MAY_HOLD_UPSTREAMS = re.compile(r"^\s*(\[\s*)?[\"']?upstream[\"']?\s*(\.|=\s*\{)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One TOML file as read. `undefined` are the strings whose variables are missing: reported already, not to be judged."""

    file: Path
    problems: Problems
    data: dict[str, Any] = field(default_factory=dict)
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    undefined: set[KeyPath] = field(default_factory=set)

    def depth(self, path: KeyPath) -> int:
        """How much of the path, counted from its start, is written in this document."""
        while path and path not in self.places:
            path = path[:-1]
        return len(path)

    def place(self, path: KeyPath) -> Place:
        """Where `path` stands, or the nearest table around it."""
        return self.places.get(path[: self.depth(path)], (1, 1))

    def error(self, path: KeyPath, message: str, hint: str = "") -> None:
        if path not in self.undefined:
            self.problem(self.place(path), message, hint)

    def warning(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problem(self.place(path), message, hint, "warning")

    def problem(self, place: Place, message: str, hint: str = "", severity: Severity = "error") -> None:
        self.problems.add(Problem(self.file, *place, message, hint, severity))


@dataclass(slots=True)
class Tree:
    """Everything read. `gateway` is None when gateway.toml itself could not be.

    `upstreams_known` is false when a file that may hold upstreams could not be read, so that a missing one proves nothing.
    """

    problems: Problems
    sources: Sources
    gateway: Document | None = None
    upstreams: list[Document] = field(default_factory=list)
    pipelines: list[Document] = field(default_factory=list)
    upstreams_known: bool = True


def read_tree(path: Path, environ: Mapping[str, str]) -> Tree:
    """`gateway.toml` at `path` and its includes. Never raises for what is wrong with them: see `Tree.problems`."""
    main = _absolute(path)
    tree = Tree(Problems(), Sources(environ))
    gateway = tree.gateway = _read(main, tree)
    if gateway is None:
        return tree
    seen = {main}
    for file in _included(gateway, tree):
        if file in seen:
            continue
        seen.add(file)
        document = _read(file, tree)
        if document is not None:
            (tree.pipelines if PIPELINE_KEYS & document.data.keys() else tree.upstreams).append(document)
    return tree


def _included(gateway: Document, tree: Tree) -> Iterator[Path]:
    """The files `include` means: each entry's in sorted order. Its default may match nothing; what is written may not."""
    written = gateway.data.get("include")
    patterns = GatewayConfig().include if written is None else written
    for index, pattern in enumerate(patterns if isinstance(patterns, list | tuple) else ()):
        if not isinstance(pattern, str) or not pattern or ("include", index) in gateway.undefined:
            continue
        if "\0" in pattern:
            gateway.error(("include", index), f"{pattern!r} is no path")
            continue
        if has_magic(pattern):
            # Path.glob takes no absolute pattern, and would find hidden files.
            files = sorted(glob(pattern, root_dir=gateway.file.parent, recursive=True))  # noqa: PTH207
            if not files and written is not None:
                gateway.warning(("include", index), f"{pattern!r} matches no file")
        else:
            files = [pattern] if written is not None or (gateway.file.parent / pattern).exists() else []
        for file in files:
            included = _absolute(gateway.file.parent / file)
            if included.is_file():
                yield included
            elif not has_magic(pattern):
                reason = "is not a file" if included.exists() else "does not exist"
                gateway.error(("include", index), f"the included file {pattern!r} {reason}")
                tree.upstreams_known = False


def _absolute(path: Path) -> Path:
    """With ".." taken out, but symbolic links left: deployments swap those, and nobody knows the files by their targets."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read(file: Path, tree: Tree) -> Document | None:
    """One file; None, with its problem noted, when it cannot be read as TOML."""
    broken = Document(file, tree.problems)
    try:
        raw = tree.sources.read(file)
    except OSError as error:
        tree.upstreams_known = False
        broken.problem((1, 1), f"cannot be read: {error.strerror}")
        return None
    try:
        text = raw.decode("utf-8-sig")  # some editors put a byte order mark in front
        data = tomllib.loads(text)
        document = Document(file, tree.problems, data, positions(text))
        data.update(_resolved(data, (), document, tree.sources))
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        text = raw.decode(errors="replace")
        broken.problem((before.count("\n") + 1, len(before) - before.rfind("\n")), "is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        place, message = syntax_error(error, text)
        broken.problem(place, f"not TOML: {message[:1].lower()}{message[1:]}")
    except RecursionError:
        broken.problem((1, 1), "nests too deeply")
    else:
        return document
    if _MAY_HOLD_UPSTREAMS.search(text):
        tree.upstreams_known = False
    return None


def _resolved(value: Any, path: KeyPath, document: Document, sources: Sources) -> Any:
    """The value with every string's variables put in, and every `{ file = "..." }` ready to be read if a field wants that."""
    if isinstance(value, str):
        return _interpolated(value, path, document, sources) if "${" in value else value
    if isinstance(value, list):
        return [_resolved(item, (*path, index), document, sources) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    table = {key: _resolved(item, (*path, key), document, sources) for key, item in value.items()}
    if table.keys() == {"file"} and isinstance(table["file"], str):
        return FileTable(table, document.file.parent, sources)
    return table


def _interpolated(text: str, path: KeyPath, document: Document, sources: Sources) -> str:
    """`${NAME}`, and `${NAME:-default}` for when NAME is unset or empty, as in a shell; `$${` is a literal `${`."""
    outside = False

    def put_in(match: re.Match[str]) -> str:
        nonlocal outside
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        outside = True
        if name is None:
            document.problem(
                document.place(path),
                "'${' is not followed by a name and '}'",
                "write ${NAME} or ${NAME:-default}; $${ is a literal ${",
            )
            document.undefined.add(path)
            return ""
        value = sources.variable(name)
        if not value and default is not None:
            return default
        if value is None:
            document.problem(document.place(path), f"the environment has no {name}", f"set it, or write ${{{name}:-default}}")
            document.undefined.add(path)
            return ""
        return value

    result = _VARIABLE.sub(put_in, text)
    return Outside(result, text) if outside else result
