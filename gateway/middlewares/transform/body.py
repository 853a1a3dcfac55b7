"""JSON bodies, changed by a plan that is made when the configuration is compiled. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.core.content.templates import Reader
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.transform.config import BodyConfig
from gateway.middlewares.transform.fields import Place, template

Path = tuple[str, ...]
_DOT = re.compile(r"(?<!\\)\.")


class BodyChanges:
    """Renames, then removes, then sets."""

    def __init__(self, config: BodyConfig, at: Place) -> None:
        """Raises ConfigProblem."""
        self._renamed = [
            (_path(old, (*at, "rename", old)), _path(new, (*at, "rename", old)))
            for old, new in config.rename.items()
        ]
        for old, new in self._renamed:
            if "*" in (*old, *new) and (old[:-1] != new[:-1] or "*" in (old[-1], new[-1])):
                hint = 'only the last name may differ: "items.*.old" = "items.*.new"'
                raise ConfigProblem("it is not clear where this goes", at=at, hint=hint)
        self._removed = [
            _path(path, (*at, "remove", place)) for place, path in enumerate(config.remove)
        ]
        self._set = list(_leaves(config.set, (), (*at, "set")))

    def __bool__(self) -> bool:
        return bool(self._renamed or self._removed or self._set)

    def apply(self, value: Any, exchange: Exchange) -> Any:
        """Change a body's value in place, and return it. What has no such path stays as it is."""
        for old, new in self._renamed:
            _rename(value, old, new)
        for path in self._removed:
            # From the end, so that places in arrays stay true.
            for container, key in reversed(list(_places(value, path))):
                if isinstance(container, dict):
                    container.pop(key, None)
                else:
                    del container[key]
        for path, wanted in self._set:
            found = wanted(exchange)
            for container, key in _places(value, path, make=True):
                if found is not None or isinstance(container, list):
                    container[key] = found
                else:
                    container.pop(key, None)
        return value


def _rename(value: Any, old: Path, new: Path) -> None:
    for container, key in list(_places(value, old)):
        if not isinstance(container, dict) or key not in container:
            continue
        moved = container.pop(key)
        targets = [(container, new[-1])] if "*" in old else _places(value, new, make=True)
        for target, name in targets:
            target[name] = moved


def _places(value: Any, path: Path, *, make: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield the containers and keys that a path leads to. make: objects that lead there."""
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        if step == "*":
            keys: list[Any] = list(range(len(value)))
        else:
            keys = [int(step)] if step.isdigit() and int(step) < len(value) else []
    elif isinstance(value, dict):
        keys = list(value) if step == "*" else [step]
    else:
        return
    for key in keys:
        if not rest:
            yield value, key
            continue
        if make and isinstance(value, dict) and step != "*" and value.get(key) is None:
            value[key] = {}
        below = value[key] if isinstance(value, list) else value.get(key)
        yield from _places(below, rest, make=make)


def _path(text: str, at: Place) -> Path:
    steps = tuple(step.replace(r"\.", ".") for step in _DOT.split(text))
    if not all(steps):
        hint = r'names with dots between them: "meta.rateLimit"; a dot in a name is "\."'
        raise ConfigProblem(f"{text!r} is no path", at=at, hint=hint)
    return steps


def _leaves(given: Mapping[str, Any], above: Path, at: Place) -> Iterator[tuple[Path, Reader]]:
    """Yield each path that a table sets, and what reads its value."""
    for key, value in given.items():
        path, place = (*above, *_path(key, (*at, key))), (*at, key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, path, place)
        else:
            yield path, _value(value, place)


def _value(value: Any, at: Place) -> Reader:
    """What reads a value, texts in it as templates. Raises ConfigProblem."""
    if isinstance(value, str):
        made = template(value, at)
        return _always(made.constant) if made.constant is not None else made.value
    if isinstance(value, list):
        members = [_value(one, (*at, place)) for place, one in enumerate(value)]
        return lambda exchange: [
            found for member in members if (found := member(exchange)) is not None
        ]
    if isinstance(value, dict):
        table = {key: _value(one, (*at, key)) for key, one in value.items()}
        return lambda exchange: {
            key: found for key, one in table.items() if (found := one(exchange)) is not None
        }
    if value is not None and not isinstance(value, bool | int | float):
        return _always(value.isoformat())  # TOML's dates and times.
    return _always(value)


def _always(value: Any) -> Callable[[Exchange], Any]:
    return lambda exchange: value
