"""The events that a mapping makes: which values of a row or record become which field.

A value is a template such as `"{store}/{number}"`, where a name stands for a field, or a table with the template as `text` and how to
read it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

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
