"""The mapping of one source: how its files are read, and which of its fields make which event.

In: a TOML file (mapping_file.py). Out: frozen structs, whose keys docs/ingest.md tells one by one; those of events are in
mapping_rules.py.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Identifier
from tillstream.sources.ingest.mapping_rules import (
    ActivityRule,
    Count,
    EnrolledRule,
    Place,
    ReturnRule,
    Round,
    Rule,
    SaleRule,
    VoidRule,
    Where,
)


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
    encoding: str = "utf-8"
    header: bool = True
    columns: Count | None = None
    multiline: bool = False
    skip_rows: Annotated[int, Meta(ge=0, le=1000)] = 0


class Fixed(Struct, frozen=True, kw_only=True):
    """Rows whose fields stand at fixed positions."""

    encoding: str = "utf-8"
    skip_rows: Annotated[int, Meta(ge=0, le=1000)] = 0


class Json(Struct, frozen=True, kw_only=True):
    """One document with the records at a path, or a record on each line."""

    items: str = "@"
    lines: bool = False
    signed: str | None = None
    encoding: str = "utf-8"


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
