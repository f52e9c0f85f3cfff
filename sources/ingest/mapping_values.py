"""Values of a mapping: whether their templates parse, their fields are there, and their options fit what they become.

In: a struct of values (a rule, its lines or tenders). Out: mistakes.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Literal

import msgspec

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.sources.ingest.mapping import Formats, Mapping
from tillstream.sources.ingest.mapping_rules import Text, Value, Who
from tillstream.sources.ingest.templates import BadTemplate, parse

Kind = Literal["text", "money", "quantity", "integer", "date", "instant", "boolean"]

KINDS: dict[str, Kind] = {
    "amount": "money",
    "discount": "money",
    "quantity_milli": "quantity",
    "quantity": "integer",
    "line_no": "integer",
    "original_line_no": "integer",
    "points": "integer",
    "business_date": "date",
    "birth_date": "date",
    "issued_at": "instant",
    "time": "instant",
}
"""What keys of events become; all others are text."""

NUMBERS = {"money", "quantity", "integer"}
OPTIONS = {
    "format": {"date", "instant"},
    "decimals": {"money", "quantity"},
    "round": NUMBERS,
    "sign": NUMBERS,
    "less": {"money", "quantity"},
}
"""Which kinds of value an option is for."""

SAMPLE = datetime(2026, 3, 29, 17, 42, 10)


def data_mistakes(mapping: Mapping, holder: msgspec.Struct, known: Collection[str], path: str) -> Iterator[Mistake]:
    """Mistakes in all values of a rule, or of its lines or tenders."""
    for field in msgspec.structs.fields(holder):
        value = getattr(holder, field.name)
        inside = f"{path}.{field.encode_name}"
        if field.name in {"where", "each", "fields", "name", "lines", "tenders"} or value is None:
            continue
        for at, item, kind in values_in(value, inside, KINDS.get(field.name, "text")):
            yield from value_mistakes(mapping, item, known, at, kind)


def values_in(value: Any, path: str, kind: Kind) -> Iterator[tuple[str, Value, Kind]]:
    """The single values in one of a rule's: itself, an identity's two, those of a table."""
    if isinstance(value, Who):
        yield f"{path}.scheme", value.scheme, "text"
        yield f"{path}.value", value.value, "text"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from values_in(item, f"{path}[{index}]", kind)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}", item, free_kind(item)
    else:
        yield path, value, kind


def free_kind(value: Value) -> Kind:
    """What a free field becomes: what its `as` says."""
    return value.as_ if isinstance(value, Text) else "text"


def value_mistakes(mapping: Mapping, value: Value, known: Collection[str], path: str, kind: Kind = "text") -> Iterator[Mistake]:
    """Mistakes in one value."""
    if isinstance(value, str):
        yield from _template_mistakes(value, known, path)
        return
    yield from _template_mistakes(value.text, known, f"{path}.text")
    if value.less is not None:
        yield from _template_mistakes(value.less, known, f"{path}.less")
    if isinstance(value.table, str) and value.table not in mapping.tables:
        yield Mistake(f"{path}.table", f"no table is called {value.table!r}", nearest(value.table, mapping.tables, "add it under [tables]"))
    if value.otherwise is not None and value.table is None:
        yield Mistake(f"{path}.otherwise", "goes with `table`")
    for option, kinds in OPTIONS.items():
        if getattr(value, option) is not None and kind not in kinds:
            yield Mistake(f"{path}.{option}", f"does not go with {kind}", f"it is for {', '.join(sorted(kinds))}")
    if value.as_ not in {"text", kind}:
        yield Mistake(f"{path}.as", f"the format of events says that this is {kind}", "leave it out; it is for free fields")
    if value.format is not None:
        yield from strptime_mistakes(value.format, f"{path}.format")


def format_mistakes(formats: Formats) -> Iterator[Mistake]:
    """Mistakes in `[formats]`."""
    if formats.thousands == formats.decimal:
        yield Mistake("$.formats.thousands", f"{formats.decimal!r} is the decimal sign already")
    for name in ("date", "time"):
        text = getattr(formats, name)
        if text is not None:
            yield from strptime_mistakes(text, f"$.formats.{name}")


def strptime_mistakes(text: str, path: str) -> Iterator[Mistake]:
    """Whether a strftime format can be read back."""
    try:
        datetime.strptime(SAMPLE.strftime(text), text)
    except ValueError as error:
        yield Mistake(path, f"{text!r} is no format: {error}", 'for example "%d.%m.%Y %H:%M"')


def _template_mistakes(text: str, known: Collection[str], path: str) -> Iterator[Mistake]:
    try:
        names = parse(text).names
    except BadTemplate as error:
        yield Mistake(path, str(error), "a field is written {name}, a brace {{")
        return
    for name in names:
        if name not in known:
            yield Mistake(path, f"there is no field {name!r}", nearest(name, known, f"the fields are {', '.join(known)}"))
