"""One receipt's rows, or one record, as canonical events (schemas/events.py), or every reason why not.

In: the rows of one receipt. Out: the events of all rules that hold on its first row. A receipt counts as a whole or not at all: one bad
row refuses it.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec
import orjson

from tillstream.schemas.events import Malformed, decode_from_outside
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_rules import ActivityRule, Lines, ReturnLines, ReturnRule, Rule, SaleRule, Tenders, Text, Value, Who
from tillstream.sources.ingest.mapping_values import KINDS, Kind, free_kind
from tillstream.sources.ingest.rows import BadField, Row, holds
from tillstream.sources.ingest.templates import parse
from tillstream.sources.ingest.values import Reader

Event = dict[str, Any]

TYPES = {
    "sale": "receipt.sale",
    "return": "receipt.return",
    "void": "receipt.void",
    "enrolled": "member.enrolled",
}


@cache
def fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a struct; msgspec finds them anew each time, which would be half of all work."""
    return msgspec.structs.fields(kind)


class Problem(NamedTuple):
    """What is wrong with a row: the event's field, the source's fields it comes from, the message, the fix."""

    row: int
    field: str
    origin: str
    message: str
    fix: str


class Maker:
    """Makes events by one mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.reader = Reader(mapping)

    def events(self, rows: Sequence[Row]) -> tuple[list[Event], list[Problem]]:
        """The events of one receipt's rows; none where there is any problem."""
        making = _Making(self.mapping, self.reader, rows)
        events = making.all_events()
        return ([], making.problems) if making.problems else (events, [])


class _Making:
    """One receipt on its way; problems are collected, so that a file is corrected once."""

    def __init__(self, mapping: Mapping, reader: Reader, rows: Sequence[Row]) -> None:
        self.mapping = mapping
        self.reader = reader
        self.rows = rows
        self.problems: list[Problem] = []
        self.used: set[int] = {0}

    def all_events(self) -> list[Event]:
        head = self.rows[0]
        events = []
        for path, rule in self.mapping.rules:
            if self.holds(rule.where, head):
                events.append(self.event(path, rule, head))
        if not events and not self.problems:
            self.add(head, "$", "", "no event of the mapping is meant for this row", "widen a `where`, or add it to [[skip]]")
        for index, row in enumerate(self.rows):
            if not self.problems and index not in self.used:
                self.add(row, "$", "", "the row is no line and no tender of its receipt", "widen a `where`, or add it to [[skip]]")
        return [event for event in events if not self.problems and self.valid(event)]

    def event(self, path: str, rule: Rule, head: Row) -> Event:
        kind = path.removeprefix("$.").partition("[")[0]
        data = dict(self.data(path, rule, head))
        receipt_id = data.get("receipt_id")
        identity = self.value(rule.id, head, "$.id", "text") if rule.id is not None else f"{kind}:{receipt_id}"
        time = self.value(rule.time, head, "$.time", "instant") if rule.time is not None else data.get("issued_at")
        return {
            "specversion": "1.0",
            "id": identity,
            "source": self.value(self.mapping.source.id, head, "$.source", "text"),
            "type": f"activity.{rule.name}" if isinstance(rule, ActivityRule) else TYPES[kind],
            "time": time,
            "data": data,
        }

    def data(self, path: str, rule: Rule, head: Row) -> Iterator[tuple[str, Any]]:
        """The event's data, field by field; what is empty and may be is left out."""
        currency = ""
        if isinstance(rule, SaleRule | ReturnRule):
            currency = self.value(rule.currency or self.mapping.source.currency or "", head, "$.data.currency", "text") or ""
            yield "currency", currency
        for field in fields_of(type(rule)):
            name, value = field.name, getattr(rule, field.name)
            if name in {"where", "id", "time", "name", "currency", "lines", "tenders"} or value is None:
                continue
            found: Any
            if isinstance(value, Who):
                found = self.who(value, head, f"$.data.{name}", required=isinstance(rule, ActivityRule))
            elif name == "identities":
                found = [who for index, item in enumerate(value) if (who := self.who(item, head, f"$.data.identities[{index}]"))]
            elif isinstance(value, dict):
                made = {key: self.value(item, head, f"$.data.{key}", free_kind(item), required=False) for key, item in value.items()}
                present = {key: item for key, item in made.items() if item is not None}
                if name == "free":
                    yield from present.items()
                    continue
                found = present
            else:
                found = self.value(value, head, f"$.data.{name}", KINDS.get(name, "text"), required=field.required)
            if found not in (None, [], {}):
                yield name, found
        if isinstance(rule, SaleRule | ReturnRule):
            yield "lines", self.parts(f"{path}.lines", rule.lines, "lines", currency)
            if rule.tenders is not None:
                yield "tenders", self.parts(f"{path}.tenders", rule.tenders, "tenders", currency)

    def who(self, who: Who, row: Row, path: str, *, required: bool = False) -> dict[str, Any] | None:
        """An identity; None where its value is empty."""
        value = self.value(who.value, row, f"{path}.value", "text", required=required)
        return None if value is None else {"scheme": self.value(who.scheme, row, f"{path}.scheme", "text"), "value": value}

    def parts(self, path: str, part: Lines | ReturnLines | Tenders, name: str, currency: str) -> list[dict[str, Any]]:
        """The lines or tenders of a receipt: of records those that `each` leads to, of rows those that `where` holds on."""
        found: list[dict[str, Any]] = []
        for index, row in enumerate(self.part_rows(path, part, name)):
            if not self.holds(part.where, row):
                continue
            if not self.mapping.tree:
                self.used.add(index)
            at = f"$.data.{name}[{len(found)}]"
            made: dict[str, Any] = {} if isinstance(part, Tenders) else {"line_no": len(found) + 1}
            for field in fields_of(type(part)):
                value = getattr(part, field.name)
                if field.name in {"where", "each", "fields"} or value is None:
                    continue
                given = self.value(value, row, f"{at}.{field.name}", KINDS.get(field.name, "text"), currency, required=field.required)
                if given is not None:
                    made[field.name] = given
            found.append(made)
        return found

    def part_rows(self, path: str, part: Lines | ReturnLines | Tenders, name: str) -> Sequence[Row]:
        if not self.mapping.tree:
            return self.rows
        try:
            return self.rows[0].parts(path)
        except BadField as bad:
            self.add(self.rows[0], f"$.data.{name}", str(part.each), bad.message, bad.fix)
            return []

    def holds(self, where: Any, row: Row) -> bool:
        try:
            return holds(where, row)
        except BadField as bad:
            self.add(row, "$", ", ".join(where), bad.message, bad.fix)
            return False

    def value(self, value: Value, row: Row, path: str, kind: Kind, currency: str = "", *, required: bool = True) -> Any:
        """What a value gives; None, with a problem noted, where it gives nothing and is required, or is wrong."""
        try:
            found = self.reader.read(value, row, kind, currency)
        except BadField as bad:
            self.add(row, path, self.origin(value), bad.message, bad.fix)
            return None
        if found is None and required:
            self.add(row, path, self.origin(value), "is empty", "correct the row, or give the value a `default` in the mapping")
        return found

    def origin(self, value: Value) -> str:
        """Where the fields of a value are in the source, for people who know the file and not the mapping."""
        names = parse(value.text if isinstance(value, Text) else value).names
        return ", ".join(str(self.mapping.fields.get(name, name)) for name in names)

    def valid(self, event: Event) -> bool:
        """Whether the pipeline will take the event; what it would say is a problem."""
        try:
            decode_from_outside(orjson.dumps(event))
        except Malformed as malformed:
            self.add(self.rows[0], malformed.path, "", malformed.message, "correct the row, or the mapping")
            return False
        return True

    def add(self, row: Row, field: str, origin: str, message: str, fix: str) -> None:
        self.problems.append(Problem(row.number, field, origin, message, fix))
