"""The mapping of one source: how its files are read, and which of its fields make which event.

In: a TOML file (mapping_file.py). Out: frozen structs, whose keys docs/ingest.md tells one by one. A value is a template such as
`"{store}/{number}"`, where a name stands for a field of the row or record, or a table with the template as `text` and how to read it.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Identifier

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Digits = Annotated[int, Meta(ge=0, le=18)]
Round = Literal["half_up", "half_even", "down"]
Condition = list[str] | bool
"""Globs, one of which the field must match, or whether there is anything in it."""

Where = dict[str, Condition]
"""Conditions on fields, all of which must hold."""

Span = Annotated[list[Count], Meta(min_length=2, max_length=2)]
"""A list, as msgspec 0.22 crashes on a union of a bounded integer and a tuple."""

Place = str | Count | Span
"""Where a field is: a column's header or number, start and length in characters, a JMESPath or an XPath expression."""

Scalar = Literal["text", "integer", "boolean"]


class Text(Struct, frozen=True, forbid_unknown_fields=True, rename={"as_": "as"}):
    """A template, and how to read what it gives; `docs/ingest.md#values`."""

    text: str
    table: str | dict[str, str] | None = None
    otherwise: str | None = None
    default: str | None = None
    format: str | None = None
    decimals: Digits | None = None
    round: Round | None = None
    sign: Literal["drop", "flip"] | None = None
    less: str | None = None
    as_: Scalar = "text"


Value = str | Text


class Head(Struct, frozen=True):
    """Whose files these are: `id` is the events' source, which may itself be a template."""

    id: Identifier
    time_zone: str
    currency: str | None = None


class Csv(Struct, frozen=True, kw_only=True):
    """Rows with a delimiter."""

    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Meta(max_length=1)] = '"'
    escape: Annotated[str, Meta(max_length=1)] = ""
    encoding: str = "utf-8-sig"
    header: bool = True
    columns: Count | None = None
    multiline: bool = False
    skip_rows: Annotated[int, Meta(ge=0, le=1000)] = 0


class Fixed(Struct, frozen=True, kw_only=True):
    """Rows whose fields stand at fixed positions."""

    encoding: str = "utf-8-sig"
    skip_rows: Annotated[int, Meta(ge=0, le=1000)] = 0


class Json(Struct, frozen=True, kw_only=True):
    """One document with the records at a path, or a record on each line."""

    items: str = "@"
    lines: bool = False
    encoding: str = "utf-8-sig"


class Xml(Struct, frozen=True, kw_only=True):
    """A document with the records in elements of one name."""

    record: Annotated[str, Meta(min_length=1)]
    namespaces: dict[str, str] = {}


class Formats(Struct, frozen=True, kw_only=True):
    """How numbers, dates and times are written; without `date` and `time`: ISO 8601."""

    decimal: Literal[".", ","] = "."
    thousands: Literal["", " ", ".", ",", "'"] = ""
    date: str | None = None
    time: str | None = None
    round: Round | None = None
    ambiguous: Literal["reject", "earlier", "later"] = "reject"
    missing: Literal["reject", "later"] = "reject"


class Group(Struct, frozen=True, kw_only=True):
    """Which rows are one receipt: consecutive ones with the same values, or all from one that begins a receipt on."""

    by: list[str] = []
    starts: Where = {}


class Lines(Struct, frozen=True, kw_only=True):
    """The lines of a sale; `each` and `fields` where records hold them, `where` where rows do."""

    each: str | None = None
    fields: dict[str, Place] = {}
    where: Where = {}
    line_no: Value | None = None
    sku: Value
    quantity_milli: Value
    amount: Value
    category: Value | None = None
    brand: Value | None = None
    discount: Value | None = None
    kind: Value | None = None


class ReturnLines(Struct, frozen=True, kw_only=True):
    """The lines of a return."""

    each: str | None = None
    fields: dict[str, Place] = {}
    where: Where = {}
    line_no: Value | None = None
    original_line_no: Value
    quantity_milli: Value
    amount: Value


class Tenders(Struct, frozen=True, kw_only=True):
    """What paid a receipt."""

    each: str | None = None
    fields: dict[str, Place] = {}
    where: Where = {}
    type: Value
    amount: Value
    unit: Value | None = None
    points: Value | None = None
    hold_id: Value | None = None


class Who(Struct, frozen=True):
    """An identity; left out where its value is empty."""

    scheme: Value
    value: Value


class SaleRule(Struct, frozen=True, kw_only=True):
    """A `receipt.sale`."""

    where: Where = {}
    id: Value | None = None
    time: Value | None = None
    receipt_id: Value
    store_id: Value
    register_id: Value
    business_date: Value
    issued_at: Value
    currency: Value | None = None
    member: Who | None = None
    lines: Lines
    tenders: Tenders | None = None


class ReturnRule(Struct, frozen=True, kw_only=True):
    """A `receipt.return`."""

    where: Where = {}
    id: Value | None = None
    time: Value | None = None
    receipt_id: Value
    original_receipt_id: Value
    original_source: Value | None = None
    store_id: Value
    register_id: Value
    business_date: Value
    issued_at: Value
    currency: Value | None = None
    member: Who | None = None
    lines: ReturnLines
    tenders: Tenders | None = None


class VoidRule(Struct, frozen=True, kw_only=True):
    """A `receipt.void`."""

    where: Where = {}
    id: Value | None = None
    time: Value
    receipt_id: Value


class EnrolledRule(Struct, frozen=True, kw_only=True):
    """A `member.enrolled`."""

    where: Where = {}
    id: Value
    time: Value
    member_id: Value
    kind: Value | None = None
    identities: list[Who] = []
    birth_date: Value | None = None
    household_id: Value | None = None
    attributes: dict[str, Value] = {}
    consents: dict[str, Value] = {}


class ActivityRule(Struct, frozen=True, kw_only=True):
    """An `activity.<name>`; `free` are its free fields."""

    where: Where = {}
    name: Annotated[str, Meta(pattern=r"^[a-z0-9_.]+\Z", max_length=100)]
    id: Value
    time: Value
    member: Who
    quantity: Value | None = None
    free: dict[str, Value] = {}


Rule = SaleRule | ReturnRule | VoidRule | EnrolledRule | ActivityRule


class Files(Struct, frozen=True, kw_only=True):
    """Which files of a folder are taken, when they are complete, and where they go; folders are relative to the file's own."""

    pattern: str = "*"
    stable_s: Annotated[int, Meta(ge=0, le=86_400)] = 5
    marker: str | None = None
    done: str | None = None
    rejects: str | None = None


class Schedule(Struct, frozen=True, kw_only=True):
    """When --watch looks: after so long, or at these times of the source's time zone."""

    every: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}[smh]\Z")] | None = None
    at: list[Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]] = []


class Mapping(Struct, frozen=True, kw_only=True, rename={"return_": "return"}):
    """A whole mapping file; exactly one of the four formats."""

    source: Head
    csv: Csv | None = None
    fixed: Fixed | None = None
    json: Json | None = None
    xml: Xml | None = None
    fields: dict[str, Place]
    formats: Formats = Formats()
    tables: dict[str, dict[str, str]] = {}
    group: Group | None = None
    skip: list[Where] = []
    sale: list[SaleRule] = []
    return_: list[ReturnRule] = []
    void: list[VoidRule] = []
    enrolled: list[EnrolledRule] = []
    activity: list[ActivityRule] = []
    files: Files = Files()
    schedule: Schedule = Schedule()

    @property
    def rules(self) -> list[tuple[str, Rule]]:
        """Every event that is mapped, with its path in the file."""
        groups: dict[str, Sequence[Rule]] = {
            "sale": self.sale,
            "return": self.return_,
            "void": self.void,
            "enrolled": self.enrolled,
            "activity": self.activity,
        }
        return [(f"$.{name}[{index}]", rule) for name, rules in groups.items() for index, rule in enumerate(rules)]

    @property
    def tree(self) -> bool:
        """Whether a record holds its own lines, as in JSON and XML."""
        return self.json is not None or self.xml is not None
