"""Declare a TOML table once: a frozen dataclass from which its marshmallow schema is derived.

    @table
    class AdminConfig:
        \"\"\"The admin listener.\"\"\"

        host: str = setting(default="127.0.0.1", doc="the address to bind")
        port: int = setting(Whole(least=0, most=65535), default=9901, doc="0 takes any free one")

`gateway schema` and the reference in docs/configuration.md are made from the same declaration. An
attribute without `setting` is no key of TOML. The fields (Whole, Duration, ...) live in schema.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from types import UnionType
from typing import (
    Any,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from marshmallow import fields, post_load, validates

from gateway.config.tables.schema import Boolean, Items, Map, Secret, SubTable, Table, Text
from gateway.config.toml.sources import plain

T = TypeVar("T")
Field = fields.Field[Any]
Check = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What `setting` says beside the default. `field` None: the annotation decides."""

    field: Field | None
    doc: str
    check: Check | None
    name: str | None


@overload
def setting(
    field: Field | None = None, *, doc: str, check: Check | None = None, name: str | None = None
) -> Any: ...
@overload
def setting(
    field: Field | None = None,
    *,
    default: T,
    doc: str,
    check: Check | None = None,
    name: str | None = None,
    repr: bool = True,
) -> T: ...
@overload
def setting(
    field: Field | None = None,
    *,
    default_factory: Callable[[], T],
    doc: str,
    check: Check | None = None,
    name: str | None = None,
) -> T: ...
def setting(
    field: Field | None = None,
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    doc: str,
    check: Check | None = None,
    name: str | None = None,
    repr: bool = True,
) -> Any:
    """Declare one key of a table. It is required when it has no default.

    field: how the value is read. It may be left out where the annotation says it: str, bool, a
        table, and tuples of them or mappings from str to them; `X | None` is read as X.
    doc: what the key means, one line of Markdown for the reference page.
    check: called with a value that `field` accepted; raises ValidationError.
    name: the key's name in TOML where it is not the attribute's.
    repr: whether the config's repr shows the value; that of a Secret never does.
    """
    found: Any = dataclasses.field(
        default=default,
        default_factory=default_factory,
        repr=repr and not isinstance(field, Secret),
        metadata={"setting": Setting(field, doc, check, name)},
    )
    return found


@dataclass_transform(frozen_default=True, field_specifiers=(setting, dataclasses.field))
def table(cls: type[T]) -> type[T]:
    """Make a class of annotated keys a frozen dataclass with a schema (see `schema.schema_of`).

    A class attribute ALTERNATIVES may hold groups of keys that stand for one another: where a
    route's table has a key of one group, the pipeline's keys of the others do not count.
    Two methods are called when a table is loaded: `of_toml`, a classmethod that makes the config
    from the keys that are given (by default they become attributes), and `check`, which raises
    ValidationError for keys that do not go together.
    """
    made: Any = dataclass(frozen=True, slots=True)(cls)
    hints = get_type_hints(made)
    found: dict[str, Any] = {}
    for attribute, one in settings(made).items():
        field = one.field or _of_annotation(hints[attribute])
        if field is None:
            raise TypeError(
                f"{cls.__name__}.{attribute}: the annotation does not say how to read it"
            )
        found[attribute] = field
        field.data_key = one.name
        field.required = _required(made.__dataclass_fields__[attribute])
    checks = {
        one.name or attribute: one.check for attribute, one in settings(made).items() if one.check
    }
    if checks:
        found["_check"] = validates(
            *(attribute for attribute, one in settings(made).items() if one.check)
        )(_checker(checks))
    place = {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.__table__"}
    made.__table__ = type(f"{cls.__name__}Table", (_Declared,), {"makes": made, **place, **found})
    result: type[T] = made
    return result


def settings(config: Any) -> dict[str, Setting]:
    """Return the keys of a class made with `table`, by attribute."""
    return {
        one.name: one.metadata["setting"]
        for one in dataclasses.fields(config)
        if "setting" in one.metadata
    }


class _Declared(Table):
    """A schema that was derived; `makes` is the class it was derived from."""

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        given = {name: plain(value) for name, value in data.items()}
        made = self.makes.of_toml(given) if hasattr(self.makes, "of_toml") else self.makes(**given)
        if hasattr(made, "check"):
            made.check()
        return made


def _checker(checks: Mapping[str, Check]) -> Callable[[Table, Any, str], None]:
    """Return a marshmallow validator that runs the `check` of a key.

    It is a new function each time, because marshmallow marks it.
    """

    def run(schema: Table, value: Any, data_key: str) -> None:
        checks[data_key](value)

    return run


def _required(one: dataclasses.Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _of_annotation(hint: Any) -> Field | None:
    """Return the field that an annotation stands for, None when it could be several."""
    if get_origin(hint) in (Union, UnionType):
        given = [one for one in get_args(hint) if one is not type(None)]
        return _of_annotation(given[0]) if len(given) == 1 else None
    if hint is bool:
        return Boolean()
    if hint is str:
        return Text()
    if hasattr(hint, "__table__"):
        return SubTable(hint)
    arguments = get_args(hint)
    if get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is ...:
        inner = _of_annotation(arguments[0])
        return None if inner is None else Items(inner)
    if get_origin(hint) is Mapping and arguments[0] is str:
        inner = _of_annotation(arguments[1])
        return None if inner is None else Map(keys=Text(), values=inner)
    return None
