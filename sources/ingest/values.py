"""What the values of a mapping give on a row: text, money, quantities, times; exact, or a reason why not."""

from typing import Any
from zoneinfo import ZoneInfo

from tillstream.schemas.mistakes import nearest
from tillstream.sources.ingest.currencies import minor_digits
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_rules import Text, Value
from tillstream.sources.ingest.mapping_values import Kind
from tillstream.sources.ingest.moments import day, instant
from tillstream.sources.ingest.numbers import Written, number
from tillstream.sources.ingest.rows import BadField, Row
from tillstream.sources.ingest.templates import parse

QUANTITY_SCALE = 3


class Reader:
    """Reads values by the conventions of one mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.formats = mapping.formats
        self.zone = ZoneInfo(mapping.source.time_zone)
        self.written = Written(mapping.formats.decimal, mapping.formats.thousands)

    def read(self, value: Value, row: Row, kind: Kind, currency: str = "") -> Any:
        """What `value` gives on a row, as JSON has it: text, an integer, a boolean; None where its fields are empty.

        Money is in minor units of `currency`, quantities in thousandths.

        Raises:
            BadField: a field cannot be read, or is not what `kind` says.
        """
        made = value if isinstance(value, Text) else Text(value)
        text = self.text(made, row)
        if text is None or kind == "text":
            return text
        if kind == "date":
            return day(text, made.format, self.formats, self.zone).isoformat()
        if kind == "instant":
            return instant(text, made.format, self.formats, self.zone).isoformat()
        if kind == "boolean":
            if text not in {"true", "false"}:
                raise BadField(f"{text!r} is neither true nor false", "translate it by a `table`")
            return text == "true"
        scale = {"money": minor_digits(currency), "quantity": QUANTITY_SCALE}.get(kind, 0)
        result = self.number(text, made, scale)
        if made.less is not None:
            less = filled(made.less, row)
            result -= 0 if less is None else abs(self.number(less, made, scale))
        result = {"drop": abs(result), "flip": -result, None: result}[made.sign]
        if result < 0:
            raise BadField(f"{text!r} is negative", 'correct the row, or say sign = "drop" or "flip" in the mapping')
        return result

    def text(self, value: Text, row: Row) -> str | None:
        """The text of a value, translated by its table. Raises BadField."""
        text = filled(value.text, row)
        if text is None:
            return value.default
        if value.table is None:
            return text
        table = self.mapping.tables[value.table] if isinstance(value.table, str) else value.table
        found = table.get(text, value.otherwise)
        if found is None:
            raise BadField(f"{text!r} is not in the table", nearest(text, table, "add it to the table, or say `otherwise`"))
        return found

    def number(self, text: str, value: Text, scale: int) -> int:
        return number(text, scale, self.written, value.round or self.formats.round, value.decimals)


def filled(template: str, row: Row) -> str | None:
    """A template with its fields filled in; None where one of them is empty. Raises BadField."""
    texts, names = parse(template)
    parts = [texts[0]]
    for name, after in zip(names, texts[1:], strict=True):
        text = row.field(name)
        if not text:
            return None
        parts += text, after
    return "".join(parts) or None
