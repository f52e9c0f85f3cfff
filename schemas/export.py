"""JSON Schema (2020-12) of everything that has a format: events, ledger records, dead letters, keys, audit log, program file, models.

In: the msgspec types of this folder. Out: one self-contained schema per name; for events and records the name is their `type`.
"""

from typing import Any, get_args

import msgspec

from tillstream.schemas.audit import ActionRecord
from tillstream.schemas.clickstream import ClickEvent
from tillstream.schemas.deadletter import DeadLetterRecord
from tillstream.schemas.events import Event
from tillstream.schemas.keys import CreatedRecord, RevokedRecord
from tillstream.schemas.ledger import PostedRecord, RefusedRecord, WaitingRecord
from tillstream.schemas.models_status import ModelsStatus
from tillstream.schemas.programs import Program
from tillstream.schemas.publishing import PublishedRecord
from tillstream.schemas.vouchers import VoucherEvent

DIALECT = "https://json-schema.org/draft/2020-12/schema"

PROGRAM = "program"
"""The name of the program file's schema; the file is TOML, the schema is that of its content."""

MODELS_STATUS = "models.status"
"""The name of the schema of what `tillstream models status --json` prints."""

ACTIVITY = "activity"
"""The name of the schema of all `activity.<name>` events."""

RECORDS: tuple[type[msgspec.Struct], ...] = (
    *get_args(Event),
    *get_args(ClickEvent),
    *get_args(VoucherEvent),
    *(PostedRecord, WaitingRecord, RefusedRecord, DeadLetterRecord, PublishedRecord, CreatedRecord, RevokedRecord, ActionRecord),
)

REFERENCE = "#/$defs/"

DECIMAL = {"type": "string", "format": "decimal"}
"""What msgspec says of a `Decimal`: true of JSON, but in a program file it is a TOML number."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """The schemas by name, in the order in which the types stand in their modules.

    >>> json_schemas()["receipt.void"]["properties"]["type"]
    {'enum': ['receipt.void']}
    """
    named = {str(kind.__struct_config__.tag or ACTIVITY): kind for kind in RECORDS} | {PROGRAM: Program, MODELS_STATUS: ModelsStatus}
    _, definitions = msgspec.json.schema_components(named.values(), ref_template=REFERENCE + "{name}")
    return {name: _schema(kind.__name__, definitions) for name, kind in named.items()}


def _schema(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definition `name` with all definitions that it leads to."""
    needed: dict[str, Any] = {}
    wanted = _references(definitions[name])
    while wanted:
        reference = wanted.pop()
        if reference not in needed:
            needed[reference] = definitions[reference]
            wanted |= _references(definitions[reference])
    schema = {"$schema": DIALECT, **definitions[name]}
    if needed:
        schema["$defs"] = {reference: needed[reference] for reference in sorted(needed)}
    whole: dict[str, Any] = _as_json(schema)
    return whole


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_references, schema))
    if not isinstance(schema, dict):
        return set()
    inside = set().union(*map(_references, schema.values()))
    return inside | {schema["$ref"].removeprefix(REFERENCE)} if "$ref" in schema else inside


def _as_json(schema: Any) -> Any:
    """As JSON has it: defaults that are tuples become arrays, decimals the numbers that they are in TOML; a copy, so nothing is shared."""
    if isinstance(schema, list | tuple):
        return [_as_json(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if {key: schema.get(key) for key in DECIMAL} == DECIMAL:
        return {"type": "number"}
    return {key: _as_json(item) for key, item in schema.items()}
