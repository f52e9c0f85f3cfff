"""Random histories in which the parts of a program meet: a seeded `random.Random` in, CloudEvents in the order of their arrival out.

Returns come back in parts and now and then beyond what was bought, holds are not always covered, ticks lie in between, some events arrive
late, early or twice. Each event has a second of its own: nothing hangs on the order of keys. A points tender is not drawn where a rule
requalifies.
"""

from datetime import UTC, date, datetime, timedelta
from random import Random

from tests.strategies import Event, Program, envelope

FIRST = datetime(2026, 2, 20, 6, tzinfo=UTC)
DAYS = 100
MEMBERS = ["m0", "m1", "m2", "m3"]
CARD = {"scheme": "card", "value": "123"}
GOODS: list[Event] = [
    {"sku": "cheese", "category": "dairy/cheese", "brand": "Acme"},
    {"sku": "milk", "category": "dairy/milk"},
    {"sku": "bread", "category": "bakery/bread", "brand": "Own"},
    {"sku": "coffee", "category": "drinks/coffee", "brand": "Own"},
    {"sku": "bottle", "category": "deposit/bottle", "kind": "deposit"},
    {"sku": "repair", "category": "service/repair", "kind": "service"},
]


class HistoryMaker:
    """Goes through moments of time in order and lets one thing happen at each."""

    def __init__(self, random: Random, tenders: bool) -> None:
        self.random = random
        self.tenders = tenders
        self.events: list[Event] = []
        self.left: dict[str, dict[int, list[int]]] = {}
        self.returned: list[str] = []
        self.voided: list[str] = []
        self.holds: dict[str, list[tuple[str, int]]] = {member: [] for member in MEMBERS}

    def make(self, events_n: int) -> list[Event]:
        seconds = sorted(self.random.sample(range(DAYS * 86_400), events_n))
        acts = [self.sell, self.come_back, self.void, self.act, self.enrol, self.segment, self.spend, self.tick]
        for number, second in enumerate(seconds):
            act = self.enrol if number < 3 else self.random.choices(acts, [50, 20, 3, 6, 3, 3, 12, 4])[0]
            act(number, FIRST + timedelta(seconds=second))
        repeats = [event for event in self.events if event["type"] == "receipt.sale" or event["type"].startswith("activity.")]
        self.events += self.random.sample(repeats, min(len(repeats), events_n // 20))
        self.arrive()
        return self.events

    def arrive(self) -> None:
        """Most arrive in their order, some late, some long before their time."""
        places = {id(event): place + self.random.choice([0, 0, 0, 3, 40, -40]) for place, event in enumerate(self.events)}
        self.events.sort(key=lambda event: places[id(event)])

    def add(self, kind: str, number: int, at: datetime, data: Event) -> None:
        self.events.append(envelope(kind, f"e{number}", "pos/1", data) | {"time": f"{at.isoformat()}"})

    def member(self) -> Event:
        return self.random.choice([{"scheme": "member", "value": self.random.choice(MEMBERS)}] * 7 + [CARD])

    def header(self, receipt_id: str, at: datetime) -> Event:
        return {
            "receipt_id": receipt_id, "store_id": self.random.choice(["PL-1", "PL-2", "DE-1"]), "register_id": "1",
            "business_date": f"{at.date()}", "issued_at": at.isoformat(), "currency": "PLN", "tenders": [],
        }  # fmt: skip

    def sell(self, number: int, at: datetime) -> None:
        random, name = self.random, f"S{number}"
        data = self.header(name, at) | {"lines": []}
        for line_no in range(1, random.randint(1, 4) + 1):
            amount = random.choice([0, 99, 1_000, 2_500, random.randint(1, 6_000)])
            line = {"line_no": line_no, "quantity_milli": random.choice([500, 1_000, 2_000, 3_000]), "amount": amount}
            data["lines"].append(line | random.choice(GOODS))
        if random.random() < 0.95:
            data["member"] = self.member()
        total = sum(line["amount"] for line in data["lines"])
        if self.tenders and total and random.random() < 0.2:
            data["tenders"] = [self.tender(data.get("member", {}).get("value", ""), random.randint(1, total))]
        self.left[name] = {line["line_no"]: [line["amount"], line["quantity_milli"]] for line in data["lines"]}
        self.add("receipt.sale", number, at, data)

    def tender(self, member: str, amount: int) -> Event:
        """At the till, or of a hold of the same member: less, as much or more than was held."""
        if self.holds.get(member) and self.random.random() < 0.6:
            hold_id, points = self.holds[member].pop()
            return {"type": "points", "amount": amount, "points": max(1, points + self.random.randint(-5, 5)), "hold_id": hold_id}
        return {"type": "points", "amount": amount, "points": self.random.randint(1, 40)}

    def come_back(self, number: int, at: datetime) -> None:
        """Of a recent sale; now and then more than was bought, a return of a return, or of a sale that never comes."""
        random = self.random
        if not self.left:
            return self.sell(number, at)
        sale = random.choice(list(self.left)[-15:])
        lines: list[Event] = []
        for line_no, (amount, milli) in self.left[sale].items():
            if random.random() < 0.6:
                back = random.choice([amount, random.randint(0, amount)])
                back_milli = milli if back == amount else random.choice([0, random.randint(0, milli)])
                back += 100_000 if random.random() < 0.03 else 0
                lines.append({"line_no": len(lines), "original_line_no": line_no, "quantity_milli": back_milli, "amount": back})
        original = sale
        if self.returned and random.random() < 0.03:
            original = random.choice([*self.returned, "never"])
        elif all(line["amount"] < 100_000 for line in lines):
            for line in lines:
                left = self.left[sale][line["original_line_no"]]
                self.left[sale][line["original_line_no"]] = [left[0] - line["amount"], left[1] - line["quantity_milli"]]
        self.returned.append(f"R{number}")
        self.add("receipt.return", number, at, self.header(f"R{number}", at) | {"original_receipt_id": original, "lines": lines})

    def void(self, number: int, at: datetime) -> None:
        """Once a sale: a second void would be a duplicate at another instant. What is returned afterwards is refused."""
        sales = [sale for sale in list(self.left)[-10:] if sale not in self.voided]
        if sales:
            self.voided.append(self.random.choice(sales))
            self.add("receipt.void", number, at, {"receipt_id": self.voided[-1]})

    def act(self, number: int, at: datetime) -> None:
        name = self.random.choice(["review", "planogram", "survey"])
        data = {"member": self.member(), "quantity": self.random.randint(0, 7), "stars": self.random.randint(3, 5)}
        self.add(f"activity.{name}", number, at, data)

    def enrol(self, number: int, at: datetime) -> None:
        random, member = self.random, MEMBERS[number] if number < 3 else self.random.choice(MEMBERS)
        born = random.choice([date(1992, 2, 29), date(1990, 2, 25) + timedelta(days=random.randint(0, 90))])
        segments = random.sample(["families", "seniors", "vip"], 2)
        attributes = {"segments": segments, "city": random.choice(["Gdynia", "Oslo", 5]), "vip": random.choice([True, 1])}
        data: Event = {"member_id": member, "kind": random.choice(["consumer", "consumer", "retailer"]), "attributes": attributes}
        if random.random() < 0.8:
            data["birth_date"] = f"{born}"
        if member == "m3":
            data["identities"] = [CARD]
        self.add("member.enrolled", number, at, data)

    def segment(self, number: int, at: datetime) -> None:
        random = self.random
        segments = random.sample(["families", "seniors", "vip"], random.randint(0, 2))
        said = {"segmentation": random.choice(["rfm", "taste"]), "segments": segments, "version": "v1", "as_of": f"{at.date()}"}
        self.add("member.segments_changed", number, at, {"member_id": random.choice(MEMBERS), **said})

    def spend(self, number: int, at: datetime) -> None:
        random, member = self.random, self.random.choice(MEMBERS)
        whose, points = {"scheme": "member", "value": member}, random.randint(1, 80)
        kind = random.choice(["hold", "hold", "release", "redeem", "adjust", "transfer"])
        if kind == "hold":
            until = at + timedelta(days=random.randint(0, 9), seconds=1)
            self.holds[member].append((f"H{number}", points))
            data: Event = {"hold_id": f"H{number}", "member": whose, "points": points, "expires_at": until.isoformat()}
        elif kind == "release":
            if not self.holds[member]:
                return
            data = {"hold_id": self.holds[member].pop()[0], "member": whose}
        elif kind == "redeem":
            data = {"redemption_id": f"D{number}", "member": whose, "points": points}
            if self.holds[member] and random.random() < 0.5:
                hold_id, held = self.holds[member].pop()
                data |= {"hold_id": hold_id, "points": random.randint(1, held)}
        elif kind == "adjust":
            data = {"adjustment_id": f"A{number}", "member": whose, "points": random.randint(-60, 120), "reason": "why", "actor": "desk"}
            if random.random() < 0.3 and data["points"] > 0:
                data["expires_on"] = f"{at.date() + timedelta(days=random.randint(-3, 30))}"
        else:
            to = {"scheme": "member", "value": random.choice(["m0", "m1", "m2"])}
            data = {"transfer_id": f"T{number}", "member": whose, "to": to, "points": points}
        if random.random() < 0.15 and kind != "release":
            data["unit"] = random.choice(["stamps", "coffees"])
        self.add(f"points.{kind}", number, at, data)

    def tick(self, number: int, at: datetime) -> None:
        self.add("clock.tick", number, at, {"date": f"{at.date()}"})


def random_full_history(random: Random, programs: list[Program], events_n: int = 200) -> list[Event]:
    """About `events_n` events of 100 days; in half of them a last tick makes almost everything due."""
    requalifies = any("on_return" in rule for program in programs for rule in program["rules"])
    events = HistoryMaker(random, tenders=not requalifies).make(events_n)
    if random.random() < 0.5:
        last = envelope("clock.tick", "last", "clock", {"date": f"{FIRST.date() + timedelta(days=DAYS + random.randint(0, 60))}"})
        events.insert(random.randint(0, len(events)), last)
    return events
