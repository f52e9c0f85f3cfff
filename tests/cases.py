"""Named cases: programs and events in a compact notation in, parsed programs and CloudEvents out.

One event a line; times are local in Warsaw unless they carry an offset, a date alone is noon; money is in units with two decimals:

    sale S1 m1 2026-03-07T17:42 cheese 15.99, bread x2 9.40 | points 5.00 500 hold=h1
    return R1 S1 2026-03-08 1 8.00, 2 x1 4.70          void S1 2026-03-08          tick 2027-04-01
    enrol m1 2026-01-01 card:123 birth=1990-03-10 kind=retailer household=h1 segments=families city=Gdynia
    segments m1 2026-02-01 rfm rfm-active rfm-regular
    identity m1 2026-02-01 card:456                    activity review m1 2026-03-01 x3 stars=5
    hold H1 m1 2026-03-01 100 until=2026-03-05         release H1 m1 2026-03-02     redeem D1 m1 2026-03-01 100 hold=H1
    adjust A1 m1 2026-03-01 -30 until=2026-12-31       transfer T1 m1 m2 2026-03-01 50
    merge m2 m1 2026-03-01                             unmerge m2 m1 2026-03-01            (m2 into m1)
    household m1 2026-03-01 h1                         household m1 2026-03-01 -           (joins, leaves)

Goods are those of `GOODS`, or a category with a slash in it, `optics/frames`.

`unit=`, `source=`, `store=`, `currency=` and `id=` (of the envelope) may stand anywhere; `-` as a member is nobody.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]

FOLDER = Path(__file__).parent / "cases"
ZONE = ZoneInfo("Europe/Warsaw")
OWN_WORDS = {"unit", "source", "store", "currency", "id", "hold", "until", "from"}

GOODS: dict[str, Event] = {
    "cheese": {"sku": "cheese", "category": "dairy/cheese", "brand": "Acme"},
    "blue": {"sku": "blue", "category": "dairy/cheese/blue", "brand": "Own/Best"},
    "milk": {"sku": "milk", "category": "dairy/milk"},
    "dairy": {"sku": "dairy", "category": "dairy"},
    "bread": {"sku": "bread", "category": "bakery/bread", "brand": "Own"},
    "diesel": {"sku": "diesel", "category": "fuel/diesel"},
    "coffee": {"sku": "coffee", "category": "drinks/coffee", "brand": "Own"},
    "plain": {"sku": "plain"},
    "repair": {"sku": "repair", "category": "service/repair", "kind": "service"},
    "bottle": {"sku": "bottle", "category": "deposit/bottle", "kind": "deposit"},
    "voucher": {"sku": "voucher", "category": "gift", "kind": "gift_card"},
    "bag": {"sku": "bag", "category": "bags", "kind": "fee"},
}


@dataclass(frozen=True)
class Case:
    """One case; `balance`, `pending`, `held` by account or account/unit, those not named are zero. What is None is not looked at."""

    name: str
    why: str
    programs: list[str]
    events: list[Event]
    balance: dict[str, int]
    pending: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    lots: dict[str, list[str]] | None = None
    net: list[str] | None = None
    tier: dict[str, str] | None = None
    rejected: list[str] = field(default_factory=list)
    duplicates: int = 0
    waiting: int = 0

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [tomllib.loads(text, parse_float=Decimal) for text in self.programs]


def cases() -> list[Case]:
    """All cases of all files, in their order."""
    bases: dict[str, str] = tomllib.loads((FOLDER / "programs.toml").read_text())
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        if path.name != "programs.toml":
            found += [case_of(dict(table), bases) for table in tomllib.loads(path.read_text())["case"]]
    return found


def case_of(table: dict[str, Any], bases: dict[str, str]) -> Case:
    """`program` goes on where the base ends; `programs` are several, each on the same base."""
    base = bases[table.pop("base", "club")]
    programs = table.pop("programs", None) or [table.pop("program", "")]
    lines = [line for line in table.pop("events").splitlines() if line.strip()]
    events = [event_of(line, f"e{number}") for number, line in enumerate(lines, 1)]
    return Case(programs=[base + program for program in programs], events=events, **table)


def event_of(text: str, identifier: str) -> Event:
    """The CloudEvent that one line spells."""
    main, *tenders = text.split("|")
    words = main.split()
    options = {key: value for key, _, value in (word.partition("=") for word in words if "=" in word)}
    kind, *plain = [word for word in words if "=" not in word]
    moment, data = READERS[kind](plain, options)
    if tenders:
        data["tenders"] = [tender_of(tender.split()) for tender in tenders]
    if "unit" in options:
        data["unit"] = options["unit"]
    envelope = {"specversion": "1.0", "id": options.get("id", identifier), "source": options.get("source", "pos/1")}
    return envelope | {"type": TYPES.get(kind, f"activity.{plain[0]}"), "time": moment, "data": data}


def instant(text: str) -> str:
    """RFC 3339 of a date, a local time, or a time with its offset."""
    moment = datetime.fromisoformat(text if "T" in text else f"{text}T12:00")
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZONE)).isoformat()


def identity(text: str) -> Event:
    scheme, _, value = text.rpartition(":")
    return {"scheme": scheme or "member", "value": value}


def minor(text: str) -> int:
    return int(Decimal(text) * 100)


def milli(words: list[str], default: str) -> int:
    """The quantity among the words of a line, `x1.5`."""
    return int(Decimal(next((word[1:] for word in words if word[0] == "x" and len(word) > 1 and word[1].isdigit()), default)) * 1000)


def tender_of(words: list[str]) -> Event:
    """`points 5.00 500`: 500 points pay 5.00; `card 10.00`."""
    options = {key: value for key, _, value in (word.partition("=") for word in words if "=" in word)}
    tender: Event = {"type": words[0], "amount": minor(words[1])}
    if words[0] == "points":
        tender |= {"points": int(words[2])} | ({"unit": options["unit"]} if "unit" in options else {})
    return tender | ({"hold_id": options["hold"]} if "hold" in options else {})


def header(receipt_id: str, moment: str, options: dict[str, str]) -> Event:
    return {
        "receipt_id": receipt_id, "store_id": options.get("store", "PL-0001"), "register_id": "1", "business_date": moment[:10],
        "issued_at": moment, "currency": options.get("currency", "PLN"), "tenders": [],
    }  # fmt: skip


def sale(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    receipt_id, member, when, *rest = words
    lines = []
    for number, item in enumerate(" ".join(rest).split(","), 1):
        name, *numbers = item.split()
        lines.append({"line_no": number, "quantity_milli": milli(numbers, "1"), "amount": minor(numbers[-1])} | article(name))
    data = header(receipt_id, instant(when), options) | {"lines": lines}
    return instant(when), data if member == "-" else data | {"member": identity(member)}


def article(name: str) -> Event:
    return {"sku": name, "category": name} if "/" in name else GOODS[name]


def come_back(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    receipt_id, original, when, *rest = words
    lines = []
    for number, item in enumerate(" ".join(rest).split(","), 1):
        line, *numbers = item.split()
        parts = {"quantity_milli": milli(numbers, "0"), "amount": minor(numbers[-1])}
        lines.append({"line_no": number, "original_line_no": int(line)} | parts)
    data = header(receipt_id, instant(when), options) | {"original_receipt_id": original, "lines": lines}
    return instant(when), data | ({"original_source": options["from"]} if "from" in options else {})


def void(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    return instant(words[1]), {"receipt_id": words[0]}


def tick(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    return f"{words[0]}T12:00:00+01:00", {"date": words[0]}


def enrol(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    member, when, *identities = words
    data: Event = {"member_id": member, "identities": [identity(text) for text in identities]}
    names = {"birth": "birth_date", "kind": "kind", "household": "household_id"}
    data |= {names[key]: value for key, value in options.items() if key in names}
    free = {key: value for key, value in options.items() if key not in names and key not in OWN_WORDS}
    data["attributes"] = {key: value.split(",") if key == "segments" else typed(value) for key, value in free.items()}
    return instant(when), data


def typed(text: str) -> str | int | bool:
    """A free value: whole numbers and truth are told from text."""
    return text == "true" if text in ("true", "false") else int(text) if text.isdigit() else text


def added(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    return instant(words[1]), {"member_id": words[0], "identity": identity(words[2])}


def household(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    member, when, name = words
    return instant(when), {"member_id": member, "household_id": None if name == "-" else name}


def merge(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    from_, into, when = words
    return instant(when), {"from": from_, "into": into}


def segments(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    member, when, segmentation, *names = words
    return instant(when), {"member_id": member, "segmentation": segmentation, "segments": names, "version": "v1", "as_of": when[:10]}


def activity(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    free = {key: typed(value) for key, value in options.items() if key not in OWN_WORDS}
    return instant(words[2]), {"member": identity(words[1]), "quantity": milli(words[3:], "1") // 1000} | free


def hold(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    hold_id, member, when, points = words
    return instant(when), {"hold_id": hold_id, "member": identity(member), "points": int(points), "expires_at": instant(options["until"])}


def release(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    return instant(words[2]), {"hold_id": words[0], "member": identity(words[1])}


def redeem(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    data = {"redemption_id": words[0], "member": identity(words[1]), "points": int(words[3]), "reward": "mug"}
    return instant(words[2]), data | ({"hold_id": options["hold"]} if "hold" in options else {})


def adjust(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    data = {"adjustment_id": words[0], "member": identity(words[1]), "points": int(words[3]), "reason": "complaint", "actor": "desk"}
    return instant(words[2]), data | ({"expires_on": options["until"]} if "until" in options else {})


def transfer(words: list[str], options: dict[str, str]) -> tuple[str, Event]:
    transfer_id, giver, receiver, when, points = words
    return instant(when), {"transfer_id": transfer_id, "member": identity(giver), "to": identity(receiver), "points": int(points)}


READERS: dict[str, Callable[[list[str], dict[str, str]], tuple[str, Event]]] = {
    "sale": sale, "return": come_back, "void": void, "tick": tick, "enrol": enrol, "identity": added, "activity": activity, "hold": hold,
    "release": release, "redeem": redeem, "adjust": adjust, "transfer": transfer, "merge": merge, "unmerge": merge, "household": household,
    "segments": segments,
}  # fmt: skip
TYPES = {
    "sale": "receipt.sale", "return": "receipt.return", "void": "receipt.void", "tick": "clock.tick", "enrol": "member.enrolled",
    "identity": "member.identity_added", "hold": "points.hold", "release": "points.release", "redeem": "points.redeem",
    "adjust": "points.adjust", "transfer": "points.transfer", "merge": "member.merged", "unmerge": "member.unmerged",
    "household": "member.household_changed", "segments": "member.segments_changed",
}  # fmt: skip
