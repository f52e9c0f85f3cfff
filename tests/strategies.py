"""Random programs, receipts and histories: dictionaries for the oracle, TOML and JSON for the engine.

Everything draws from a `random.Random`: Hypothesis gives one that it can shrink (`st.randoms`), a loop gives a seeded one.
"""

import json
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any, get_args

from hypothesis import Phase

from tillstream.kernels.posters import Posters
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import LedgerEvent, Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import decode
from tillstream.schemas.ledger import Posting, decode_record

UNSHRUNK = (Phase.explicit, Phase.generate)
"""For tests on whole programs and histories: shrinking one takes minutes and does not make it plainer; its blob replays it."""

Program = dict[str, Any]
Event = dict[str, Any]

CATEGORIES = ["dairy", "dairy/cheese", "dairy/cheese/blue", "fuel", "fuel/diesel", "drinks/beer", "", None]
BRANDS = ["Acme", "Zeta1", "Zeta/2", None]
SKUS = ["5901234", "5909999", "x"]
KINDS = ["item", "item", "item", "service", "deposit", "gift_card", "fee"]
STORES = ["PL-0001", "PL-0002", "DE-1", "a/b"]
GLOBS = ["**", "*", "dairy/**", "**/cheese", "dairy/*", "**/cheese/**", "fuel", "fuel/**", "d*/b*", "Acme", "Zeta*", "59*", "x"]
STORE_GLOBS = ["PL-*", "PL-0001", "**", "*", "a/**", "DE-*"]
KIND_GLOBS = ["*", "gift_*", "deposit", "item", "**"]
ZONES = ["Europe/Warsaw", "America/New_York", "UTC", "Asia/Kathmandu"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
HOURS = ["00:00", "08:00", "08:01", "12:30", "19:30", "23:59", "24:00"]
FIRST_DAY = date(2026, 2, 20)


def toml(value: Any) -> str:
    """A value in TOML, tables inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else f"{value}"


def program_text(program: Program) -> str:
    return "\n".join(f"{key} = {toml(value)}" for key, value in program.items())


def some(random: Random, values: list[Any]) -> list[Any]:
    return [random.choice(values) for _ in range(random.randint(1, 2))]


def random_award(random: Random) -> dict[str, Any]:
    points = random.choice([0, 1, 2, 7, 1000, 10**15])
    fraction = random.choice([points, Decimal("0.5"), Decimal("1.25"), Decimal("0.001")])
    forms: list[dict[str, Any]] = [
        {"points": fraction, "per_amount": random.choice([1, 3, 100, 10**15])},
        {"fixed": random.choice([0, 1, 50, 2**63 - 1])},
        {"points": points, "per_item": random.choice([1, 2, 10**15])},
        {"points": points, "per_line": random.choice([1, 2, 3])},
        {"steps": [[low, random.randint(0, 90)] for low in sorted(random.sample([0, 1, 500, 1000, 5000, 10**12], 3))]},
        {"multiply": random.choice([1, 2, 3, Decimal("1.5"), Decimal("1.333"), 10**6])},
    ]
    return random.choice(forms)


def random_goods(random: Random) -> dict[str, Any]:
    goods: dict[str, Any] = {}
    for key, patterns in (("category", GLOBS), ("brand", GLOBS), ("sku", GLOBS), ("kind", KIND_GLOBS)):
        if random.random() < 0.2:
            goods[key] = some(random, patterns)
    return goods


def random_when(random: Random) -> dict[str, Any]:
    """Conditions; `from` and `to`, `hours` in order."""
    first, last = sorted(random.sample(range(len(HOURS)), 2))
    day = FIRST_DAY + timedelta(days=random.randint(0, 20))
    choices: dict[str, Any] = {
        "weekday": some(random, DAYS) + some(random, DAYS),
        "hours": [HOURS[first], HOURS[last]],
        "from": day,
        "to": day + timedelta(days=random.randint(0, 9)),
        "store": some(random, STORE_GLOBS),
        "min_amount": random.choice([0, 1, 1000, 10**12]),
        "min_positions": random.randint(0, 4),
    }
    return {key: value for key, value in choices.items() if random.random() < 0.12}


def random_rule(random: Random, number: int, groups: list[str], grouped: float) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": f"r{number}", "award": random_award(random)}
    lines = random_goods(random)
    for key in ("min_amount", "min_quantity_milli"):
        if random.random() < 0.1:
            lines[key] = random.choice([0, 1, 1000, 5000])
    options: dict[str, tuple[float, Any]] = {
        "when": (0.6, random_when(random)),
        "lines": (0.7, lines),
        "exclude": (0.3, random_goods(random)),
        "rounding": (0.5, random.choice(["floor", "half_up", "ceil"])),
        "priority": (0.3, random.choice([-5, 10, 100, 200])),
        "group": (grouped, random.choice(groups)),
        "exclusive": (0.06, True),
        "cap": (0.25, {"per_receipt": random.choice([0, 1, 5, 300, 2**63 - 1])}),
        "earn_on_points_tender": (0.2, random.choice([True, False])),
    }
    return rule | {key: value for key, (share, value) in options.items() if random.random() < share}


def random_program(random: Random, rules_max: int = 8, filler: int = 0) -> Program:
    """A valid program; `filler` rules more, to leave the first words of the bits."""
    groups = {f"g{n}": {"stacking": random.choice(["all", "best", "best", "first"])} for n in range(random.randint(1, 3))}
    grouped = random.choice([0.1, 0.4, 0.8])
    rules = [random_rule(random, n, list(groups), grouped) for n in range(random.randint(1, rules_max))]
    rules += [{"id": f"f{n}", "award": {"fixed": n % 3}, "lines": {"sku": ["x"]}} for n in range(filler)]
    random.shuffle(rules)
    order = sorted(rules, key=lambda rule: rule.get("priority", 100))
    for place, rule in enumerate(order):
        if "multiply" not in rule["award"]:
            continue
        undecided = {other.get("group") for other in order[place:] if groups.get(other.get("group", ""), {}).get("stacking") == "best"}
        sources = [other["id"] for other in order[:place] if other.get("group") not in undecided - {None}]
        sources = [other["id"] for other in order[:place] if other.get("group") and other["id"] in sources] or sources
        rule["award"] = rule["award"] | {"of": random.choice(sources)} if sources else {"fixed": 3}
    head = {"id": "random", "currency": "PLN", "time_zone": random.choice(ZONES)}
    return {"program": head, "units": {"points": {}}, "groups": groups, "rules": rules}


def random_line(random: Random, number: int, huge: bool) -> Event:
    amount = random.choice([0, 1, 2, random.randint(0, 99), random.randint(0, 99_999), 2**31 - 1, 2**31])
    line: Event = {
        "line_no": number,
        "sku": random.choice(SKUS),
        "quantity_milli": random.choice([0, 1, 999, 1000, 1250, random.randint(0, 9000)]),
        "amount": random.choice([amount, random.randint(0, 2**62)]) if huge else amount,
    }
    if huge and random.random() < 0.2:
        line["quantity_milli"] = random.randint(0, 2**62)
    for key, values in (("category", CATEGORIES), ("brand", BRANDS)):
        if (value := random.choice(values)) is not None:
            line[key] = value
    return line | {"kind": random.choice(KINDS)}


def envelope(kind: str, identifier: str, source: str, data: Event) -> Event:
    time = data.get("issued_at", "2026-03-01T12:00:00Z")
    return {"specversion": "1.0", "id": identifier, "source": source, "type": kind, "time": time, "data": data}


def header(random: Random, receipt_id: str) -> Event:
    zone = random.choice(["+01:00", "-05:00", "Z", "+05:45"])
    day = FIRST_DAY + timedelta(days=random.randint(0, 25))
    clock = random.choice(["00:00:00", "07:59:59", "08:00:00", "08:00:59", "19:29:59.999999", "19:30:00", "23:59:59"])
    return {
        "receipt_id": receipt_id,
        "store_id": random.choice(STORES),
        "register_id": "1",
        "business_date": f"{day}",
        "issued_at": f"{day}T{clock}{zone}",
        "currency": "PLN",
    }


def random_sale(random: Random, number: int = 0, lines_max: int = 8, huge: bool = False) -> Event:
    """A `receipt.sale` as a dictionary; line numbers come in any order."""
    lines_n = random.randint(0, lines_max)
    numbers = random.sample([*range(1, lines_max + 5), 2**63 - 1], lines_n)
    data = header(random, f"S{number}") | {"lines": [random_line(random, n, huge) for n in numbers], "tenders": []}
    total = sum(line["amount"] for line in data["lines"])
    if total and random.random() < 0.5:
        paid = min(random.choice([1, total // 3, total // 2, total]), 2**63 - 1)
        data["tenders"] = [{"type": "card", "amount": total - paid}] if total - paid < 2**63 else []
        data["tenders"] += [{"type": "points", "amount": part, "points": part % 1000} for part in (paid // 3, paid - paid // 3)]
    if random.random() < 0.9:
        data["member"] = {"scheme": "member", "value": random.choice(["m0", "m1", "m2"])}
    return envelope("receipt.sale", f"e{number}", "pos/1", data)


def random_returns(random: Random, sale: Event, parts: int) -> list[Event]:
    """`parts` returns that take back no more than was bought, in all; some of money only, some of all that is left."""
    left = {line["line_no"]: [line["amount"], line["quantity_milli"]] for line in sale["data"]["lines"]}
    returns = []
    for part in range(parts):
        lines: list[Event] = []
        for number, (amount, quantity) in left.items():
            if random.random() < 0.4:
                continue
            back = amount if random.random() < 0.3 else random.randint(0, amount)
            back_milli = random.choice([0, quantity, random.randint(0, quantity)])
            left[number] = [amount - back, quantity - back_milli]
            lines.append({"line_no": len(lines), "original_line_no": number, "quantity_milli": back_milli, "amount": back})
        receipt_id = f"{sale['data']['receipt_id']}/R{part}"
        data = header(random, receipt_id) | {"original_receipt_id": sale["data"]["receipt_id"], "lines": lines}
        returns.append(envelope("receipt.return", f"{sale['id']}r{part}", sale["source"], data))
    return returns


def random_void(sale: Event) -> Event:
    return envelope("receipt.void", f"{sale['id']}v", sale["source"], {"receipt_id": sale["data"]["receipt_id"]})


def random_history(random: Random, sales_n: int = 6, *, ticks: bool = False, voids: bool = True) -> list[Event]:
    """Sales, clean returns, voids and ticks in a natural order; nothing in it conflicts."""
    events: list[Event] = []
    for number in range(sales_n):
        sale = random_sale(random, number, 5)
        events.append(sale)
        events += random_returns(random, sale, random.choice([0, 0, 1, 2, 3]))
        if voids and random.random() < 0.1:
            events.append(random_void(sale))
    if ticks:
        days = [FIRST_DAY + timedelta(days=random.randint(0, 80)) for _ in range(3)]
        events += [envelope("clock.tick", f"t{n}", "clock", {"date": f"{day}"}) for n, day in enumerate(days)]
    return events


def repeated(random: Random, events: list[Event]) -> list[Event]:
    """Some of the events once more, receipts in a new envelope: others are known by its id."""
    chosen = [event for event in events if event["type"] != "clock.tick" and random.random() < 0.3]
    return [event | {"id": f"{event['id']}'"} if event["type"].startswith("receipt.") else event for event in chosen]


def raw_of(event: Event) -> bytes:
    return json.dumps(event).encode()


def routed(events: Iterable[Event]) -> list[Routed]:
    """Events as a partition would bring them; members are their own accounts."""
    result = []
    for offset, event in enumerate(events):
        raw = raw_of(event)
        typed = decode(raw)
        assert isinstance(typed, get_args(LedgerEvent))
        account = event["data"].get("member_id") or event["data"].get("member", {}).get("value")
        result.append(Routed(typed, account, offset, raw))  # type: ignore[arg-type]
    return result


def post(poster: Poster | Posters, events: Iterable[Event], snapshot: Snapshot, batch_rows: int = 5) -> list[Outcome]:
    """Posts events in batches."""
    whole = routed(events)
    return [outcome for n in range(0, len(whole), batch_rows) for outcome in poster.post(whole[n : n + batch_rows], snapshot)]


def postings(outcomes: Iterable[Outcome]) -> list[Posting]:
    records = (decode_record(raw) for outcome in outcomes for raw in outcome.records)
    return [record for record in records if isinstance(record, Posting)]


