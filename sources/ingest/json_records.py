"""Records of a JSON file: of one document at a JMESPath, or one a line; JMESPath leads to their fields.

Numbers stay the text that they are in the file: no float is made of 15.99.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NoReturn

import jmespath
from jmespath.exceptions import JMESPathError

from tillstream.sources.ingest.encodings import BAD, bad_byte, readable, text_of
from tillstream.sources.ingest.mapping import Json, Mapping
from tillstream.sources.ingest.mapping_rules import Place
from tillstream.sources.ingest.rows import RAW_CHARS_MAX, BadField, Passed, Row, Stop, Unreadable
from tillstream.sources.ingest.text_rows import TextRow, text_rows

DOCUMENT_CHARS_MAX = 32 * 1024 * 1024
"""A document is in memory as a whole, at about ten times its size; larger ones come as lines."""

ROOT = "$."
"""What a path begins with that leads from the document, not from the record."""

WHOLE_MAX = 2**53
Paths = dict[str, tuple[bool, Any]]
"""Compiled expressions by field; true where they begin at the document."""


class JsonRecord:
    """One record, line or tender; `outer` is the record that holds it."""

    __slots__ = ("kinds", "number", "outer", "paths", "root", "value")

    def __init__(self, number: int, value: Any, root: Any, paths: Paths, kinds: "Kinds", outer: "JsonRecord | None" = None) -> None:
        self.number = number
        self.value = value
        self.root = root
        self.paths = paths
        self.kinds = kinds
        self.outer = outer

    @property
    def raw(self) -> str:
        return readable(json.dumps(self.value, ensure_ascii=False)[:RAW_CHARS_MAX])

    def field(self, name: str) -> str:
        if name not in self.paths and self.outer is not None:
            return self.outer.field(name)
        from_root, path = self.paths[name]
        return scalar(searched(path, self.root if from_root else self.value), path.expression)

    def parts(self, name: str) -> Sequence[Row]:
        path, fields = self.kinds[name]
        found = searched(path, self.value)
        if found is None:
            return []
        if not isinstance(found, list):
            raise BadField(f"{path.expression} leads to no list", "correct `each` in the mapping")
        return [JsonRecord(self.number, value, self.root, fields, self.kinds, self) for value in found]


Kinds = dict[str, tuple[Any, Paths]]
"""Of each rule's lines and tenders: where they are, and their fields."""


def json_records(stream: BinaryIO, mapping: Mapping) -> Iterator[JsonRecord | Unreadable | Passed]:
    """The records of a JSON file.

    Raises:
        Stop: the document is too large, no JSON, or has no records where the mapping says.
        UnicodeError: the file is not of this encoding at all.
    """
    form = mapping.json or Json()
    paths, kinds = compiled(mapping.fields), kinds_of(mapping)
    if form.lines:
        for item in text_rows(stream, form.encoding):
            if not isinstance(item, TextRow):
                yield item
                continue
            try:
                root = loaded(item.text)
                yield JsonRecord(item.number, opened(root, form), root, paths, kinds)
            except ValueError as error:
                yield Unreadable(item.number, item.text, f"no JSON: {error}", "a record on each line")
            except BadField as bad:
                yield Unreadable(item.number, item.text, bad.message, bad.fix)
        return
    root = document(stream, form.encoding)
    try:
        found = searched(jmespath.compile(form.items), opened(root, form))
    except BadField as bad:
        raise Stop(bad.message, bad.fix) from None
    if found is None:
        raise Stop(f"the document has nothing at {form.items}", "correct json.items in the mapping")
    for number, value in enumerate(found if isinstance(found, list) else [found], 1):
        yield JsonRecord(number, value, root, paths, kinds)


def document(stream: BinaryIO, encoding: str) -> Any:
    """The one document of a file. Raises Stop."""
    with text_of(stream, encoding) as file:
        text = file.read(DOCUMENT_CHARS_MAX + 1)
    if len(text) > DOCUMENT_CHARS_MAX:
        raise Stop(f"the document has more than {DOCUMENT_CHARS_MAX} characters", "split it, or write a record on each line (json.lines)")
    wrong = bad_byte(text)
    if wrong is not None:
        raise Stop(f"{wrong} is no text in {encoding}", "correct the file, or `encoding` in the mapping")
    try:
        return loaded(text)
    except ValueError as error:
        raise Stop(f"no JSON: {error}", "json.lines = true is for files with a record on each line") from None


def opened(root: Any, form: Json) -> Any:
    """What a signed document (JWS, RFC 7515, compact) says: its second part. The signature is not verified. Raises BadField."""
    if form.signed is None:
        return root
    token = scalar(searched(jmespath.compile(form.signed), root), form.signed)
    fix = "correct json.signed in the mapping; it leads to three parts between points"
    if token.count(".") != 2:
        raise BadField(f"nothing signed at {form.signed}", fix)
    part = token.split(".")[1]
    try:
        return loaded(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode())
    except ValueError as error:
        raise BadField(f"the signed document at {form.signed} is no JSON: {error}", fix) from None


def loaded(text: str) -> Any:
    """JSON with numbers as text. Raises ValueError."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def compiled(fields: dict[str, Place]) -> Paths:
    """The fields' expressions."""
    places = {name: place for name, place in fields.items() if isinstance(place, str)}
    return {name: (place.startswith(ROOT), jmespath.compile(place.removeprefix(ROOT))) for name, place in places.items()}


def kinds_of(mapping: Mapping) -> Kinds:
    """Lines and tenders of all rules, by their paths in the mapping."""
    return each_of(mapping, lambda each, fields: (jmespath.compile(each), compiled(fields)))


def each_of(mapping: Mapping, made: Callable[[str, dict[str, Place]], Any]) -> dict[str, Any]:
    """What `made` makes of each rule's lines and tenders, by their paths in the mapping."""
    found = {}
    for path, rule in mapping.rules:
        for name in ("lines", "tenders"):
            part = getattr(rule, name, None)
            if part is not None and part.each is not None:
                found[f"{path}.{name}"] = made(part.each, part.fields)
    return found


def searched(path: Any, value: Any) -> Any:
    """What an expression leads to; None where to nothing. Raises BadField."""
    try:
        return path.search(value)
    except (JMESPathError, RecursionError, TypeError, ValueError, AttributeError) as error:
        raise BadField(f"{path.expression}: {' '.join(str(error).split())}", "correct the path in the mapping") from None


def scalar(value: Any, expression: str) -> str:
    """The text of a value. Raises BadField where it is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if BAD.search(value):
            raise BadField(f"{readable(value)!r} is no text", "correct the file")
        return value.strip()
    return number_text(value, expression)


def number_text(value: Any, expression: str) -> str:
    """A number that an expression has computed: counted, not measured."""
    if isinstance(value, int | float) and abs(value) <= WHOLE_MAX and value == int(value):
        return str(int(value))
    if isinstance(value, int | float):
        raise BadField(f"{expression} computes {value}, which is not exact", "map the field itself; money is never computed in floats")
    raise BadField(f"{expression} leads to no single value", "lead it to one value, for example with [0]")
