"""Mistakes of form in a program or mapping file: what is not a table, unknown and missing keys, values of the wrong type.

In: the parsed TOML and the struct that it should be. Out: every mistake, each with its path.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Any

import msgspec
from msgspec import NODEFAULT

from tillstream.schemas.mistakes import Mistake, nearest


def form_mistakes(tree: Any, kind: type[msgspec.Struct], path: str = "$") -> Iterator[Mistake]:
    """Mistakes of form in the table `tree`."""
    if not isinstance(tree, dict):
        yield Mistake(path, f"expected a table, got {tree!r}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in sorted(tree.keys() - fields.keys()):
        yield Mistake(f"{path}.{key}", "unknown key", nearest(key, sorted(fields), f"known here: {', '.join(sorted(fields))}"))
    for name, field in fields.items():
        if name in tree:
            yield from _value_mistakes(tree[name], field.type, f"{path}.{name}")
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            yield Mistake(f"{path}.{name}", "is missing")


def _value_mistakes(value: Any, kind: Any, path: str) -> Iterator[Mistake]:
    """Descends into tables, arrays of tables and named tables; everything else is converted whole."""
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    origin = getattr(kind, "__origin__", None)
    struct = _struct_of(kind)
    if struct is not None and (isinstance(value, dict) or not set(arguments) - {struct, type(None)}):
        yield from form_mistakes(value, struct, path)
    elif origin is list and _struct_of(arguments[0]) is not None and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _value_mistakes(item, arguments[0], f"{path}[{index}]")
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            yield from _conversion_mistakes(name, arguments[0], f"{path}.{name}")
            yield from _value_mistakes(item, arguments[1], f"{path}.{name}")
    else:
        yield from _conversion_mistakes(value, kind, path)


def _conversion_mistakes(value: Any, kind: Any, path: str) -> Iterator[Mistake]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, inside = str(error).partition(" - at `$")
        yield Mistake(path + inside.rstrip("`"), message)


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a table of this kind is: the kind itself, or the one in a union."""
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)
