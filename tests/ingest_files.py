"""What tests of `ingest` share: a small mapping, rows for it, and outcomes in a form that compares."""

import io
from typing import Any

from tillstream.sources.ingest.decoding import Outcome, outcomes
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_file import parse_mapping

HEAD = """
[source]
id = "old"
currency = "PLN"
time_zone = "Europe/Warsaw"
"""

CSV = f"""{HEAD}
[csv]
delimiter = ";"

[fields]
kind = "kind"
number = "number"
time = "time"
card = "card"
sku = "sku"
quantity = "quantity"
amount = "amount"

[formats]
decimal = ","

[group]
by = ["number"]

[[skip]]
kind = ["SUM"]

[[sale]]
where = {{ kind = ["S"] }}
receipt_id = "{{number}}"
store_id = "s1"
register_id = "1"
business_date = "{{time}}"
issued_at = "{{time}}"
member = {{ scheme = "card", value = "{{card}}" }}

[sale.lines]
sku = "{{sku}}"
quantity_milli = "{{quantity}}"
amount = "{{amount}}"

[[return]]
where = {{ kind = ["R"] }}
receipt_id = "{{number}}/R"
original_receipt_id = "{{number}}"
store_id = "s1"
register_id = "1"
business_date = "{{time}}"
issued_at = "{{time}}"

[return.lines]
original_line_no = "1"
quantity_milli = "{{quantity}}"
amount = "{{amount}}"
"""

HEADER = "kind;number;time;card;sku;quantity;amount"


def row(number: str, amount: str = "15,99", *, kind: str = "S", card: str = "c1", sku: str = "milk", quantity: str = "1") -> str:
    return f"{kind};{number};2026-03-07 17:42;{card};{sku};{quantity};{amount}"


def mapping(text: str = CSV) -> Mapping:
    return parse_mapping(text).mapping


def decoded(content: bytes | str, by: Mapping | None = None) -> list[Outcome]:
    raw = content.encode() if isinstance(content, str) else content
    return list(outcomes(io.BytesIO(raw), by or mapping()))


def rows(*lines: str) -> str:
    return "\n".join([HEADER, *lines]) + "\n"


def taken(found: list[Outcome]) -> list[tuple[str, list[int]]]:
    """Each event's receipt and amounts."""
    return [(event["data"]["receipt_id"], [line["amount"] for line in event["data"]["lines"]]) for one in found for event in one.events]


def refused(found: list[Outcome]) -> list[tuple[int, str]]:
    """Each reject's row and message."""
    return [(reject.row, reject.message) for one in found for reject in one.rejects]


def counted(found: list[Outcome]) -> dict[str, Any]:
    """Rows by what came of them."""
    return {
        "events": sum(one.rows for one in found if one.events),
        "rejected": sum(len(one.rejects) for one in found),
        "passed": sum(one.rows for one in found if one.passed),
        "rows": sum(one.rows for one in found),
    }
