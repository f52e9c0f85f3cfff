"""A till, a clock and members, step by step, over the whole vocabulary: what holds after every step, and the oracle's outcome at the end.

Two ways to live: *in order*, with all that is decided by arrival (budgets, clamps, exchanges, transfers, what is not covered); or with
*late* events and returns before their sale, where programs and histories are without it (tests/test_arrival.py). The clock ticks every
midnight, as a worker's does. `TILLSTREAM_MACHINES` says how many lives there are, each time other ones (default: the same 200).
"""

import os
import tomllib
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.oracle import outcome
from tests.strategies import Event, envelope, raw_of
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import FIRST, GOODS
from tests.test_arrival import funds, in_any_order, units_of
from tests.test_posting import conserved, state
from tillstream.kernels.lapsing import tick_posting
from tillstream.kernels.posters import Posters
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import ROUTED_BYTES_MAX, TickEvent, TransferEvent, decode
from tillstream.schemas.ledger import Posting, decode_record, encode_record, entries
from tillstream.schemas.program_file import parse_program

MANY = os.environ.get("TILLSTREAM_MACHINES")
LIVES = int(MANY or 200)
HOUSEHOLD = {"m0": "h1", "m1": "h1"}
MEMBER = st.sampled_from(["m0", "m1", "m2", "m3"])
ACTIVITIES = ["review", "planogram", "survey"]
POINTS = st.integers(1, 60)
LINES = st.lists(st.tuples(st.sampled_from([0, 99, 1_000, 2_500, 5_999]), st.sampled_from([500, 1_000, 3_000]), st.sampled_from(GOODS)),
                 min_size=1, max_size=3)  # fmt: skip
DAYS_BACK = st.integers(0, 20)


class Till(RuleBasedStateMachine):
    """`mirror` is made of the ledger's records alone; `sums` are the entries of each account and unit."""

    @initialize(seed=st.integers(0, 10_000), late=st.booleans())
    def begin(self, seed: int, late: bool) -> None:
        programs = random_programs(Random(seed))
        self.late = late
        self.texts = texts_of([in_any_order(program) for program in programs] if late else programs)
        self.parsed = [tomllib.loads(text, parse_float=Decimal) for text in self.texts]
        self.poster = Posters(Timetable([parse_program(text) for text in self.texts]))
        self.zone = ZoneInfo(self.parsed[0]["program"]["time_zone"])
        self.snapshot, self.mirror = Snapshot(), Snapshot()
        self.sums: Counter[tuple[str, str]] = Counter()
        self.events: list[Event] = []
        self.known: list[Event] = []
        self.codes: Counter[str] = Counter()
        self.left: dict[str, dict[int, list[int]]] = {}
        self.holds: list[tuple[str, str]] = []
        self.now, self.number = FIRST, 0
        for event in funds() if late else []:
            self.take(event)
        self.tick(1)
        for member in ("m0", "m1", "m2"):
            self.enrol(member, "families", 0)

    def at(self, back: int = 0) -> datetime:
        """The next second; or, where late events are allowed, one of some days ago."""
        self.number += 1
        self.now += timedelta(seconds=1)
        return self.now - timedelta(days=back if self.late else 0)

    def happen(self, kind: str, at: datetime, data: Event) -> str:
        return self.take(envelope(kind, f"e{self.number}", "pos/1", data) | {"time": at.isoformat()})

    def take(self, event: Event) -> str:
        """Posts an event, and what follows from it; what became of it."""
        self.events.append(event)
        raw = raw_of(event)
        typed: Any = decode(raw)
        account = own_account(event)
        if isinstance(typed, TransferEvent):
            to = typed.data.to.value
            together = to == account or HOUSEHOLD.get(to, 0) == HOUSEHOLD.get(account or "", 1)
            typed = msgspec.structs.replace(typed, toaccountid=to if together else None)
        found = self.post(Routed(typed, account, self.number, raw))
        if found.status == "accepted" and not isinstance(typed, TickEvent):
            self.known.append(event)
        return found.status

    def post(self, routed: Routed) -> Outcome:
        outcomes = self.poster.post([routed], self.snapshot)
        for found in outcomes:
            self.codes.update([found.problem.code] if found.problem else [])
            for raw in found.records:
                self.mirror.record(raw)
                record = decode_record(raw)
                if isinstance(record, Posting):
                    self.check(record)
            for follow in found.follow:
                self.post(Routed(decode(follow.raw, ROUTED_BYTES_MAX), follow.account_id, routed.offset, follow.raw))  # type: ignore[arg-type]
        if isinstance(routed.event, TickEvent):
            self.mirror.record(encode_record(tick_posting(routed.event, routed.offset, None, [])))
        return outcomes[0]

    def check(self, posting: Posting) -> None:
        """Adds a posting up; what a rule gives line by line is its award, or what its limits leave of it."""
        for entry in entries(posting):
            self.sums[entry.account_id or "", entry.unit] += entry.points
        limited = {each["id"] for program in self.parsed for each in program["rules"] if each.get("cap")}
        for group in posting.entries:
            if group.kind == "accrual" and group.award is not None:
                assert sum(group.points) == group.award or (group.rule_id in limited and sum(group.points) < group.award)

    @rule()
    def next_day(self) -> None:
        self.tick(1)

    @rule(weeks=st.integers(1, 5))
    def weeks_pass(self, weeks: int) -> None:
        self.tick(7 * weeks)

    def tick(self, days: int) -> None:
        """Midnights pass, each with its tick."""
        for _ in range(days):
            self.now += timedelta(days=1)
            self.number += 1
            self.happen("clock.tick", self.now, {"date": f"{self.now.astimezone(self.zone).date()}"})

    @rule(member=MEMBER, lines=LINES, back=DAYS_BACK, paid=st.none() | POINTS, with_hold=st.booleans())
    def sell(self, member: str, lines: list[tuple[int, int, Event]], back: int, paid: int | None, with_hold: bool) -> None:
        event = self.sale(member, lines, self.at(back))
        total = sum(line["amount"] for line in event["data"]["lines"])
        if paid is not None and total and not any("on_return" in each for program in self.parsed for each in program["rules"]):
            hold = {"hold_id": self.holds.pop()[0]} if with_hold and self.holds and back == 0 else {}
            event["data"]["tenders"] = [{"type": "points", "amount": max(1, total // 2), "points": paid} | hold]
        self.take(event)

    def sale(self, member: str, lines: list[tuple[int, int, Event]], at: datetime) -> Event:
        name = f"S{self.number}"
        rows = [{"line_no": n, "amount": a, "quantity_milli": q} | goods for n, (a, q, goods) in enumerate(lines, 1)]
        self.left[name] = {row["line_no"]: [row["amount"], row["quantity_milli"]] for row in rows}
        data = self.header(name, at) | {"lines": rows, "member": {"scheme": "member", "value": member}}
        return envelope("receipt.sale", f"e{self.number}", "pos/1", data) | {"time": at.isoformat()}

    def header(self, receipt_id: str, at: datetime) -> Event:
        return {"receipt_id": receipt_id, "store_id": "PL-1", "register_id": "1", "business_date": f"{at.date()}",
                "issued_at": at.isoformat(), "currency": "PLN", "tenders": []}  # fmt: skip

    def return_of(self, sale: str, percent: int, at: datetime) -> Event:
        rows = []
        for number, left in self.left[sale].items():
            amount, milli = (part * percent // 100 for part in left)
            self.left[sale][number] = [left[0] - amount, left[1] - milli]
            rows.append({"line_no": len(rows), "original_line_no": number, "amount": amount, "quantity_milli": milli})
        data = self.header(f"R{self.number}", at) | {"original_receipt_id": sale, "lines": rows}
        return envelope("receipt.return", f"e{self.number}", "pos/1", data) | {"time": at.isoformat()}

    @precondition(lambda self: self.left)
    @rule(which=st.integers(0, 99), percent=st.integers(0, 100), back=st.integers(0, 3), too_much=st.integers(0, 9))
    def come_back(self, which: int, percent: int, back: int, too_much: int) -> None:
        sale = list(self.left)[which % len(self.left)]
        event = self.return_of(sale, percent, self.at(back))
        if too_much == 9 and not self.late:
            event["data"]["lines"][0]["amount"] += 100_000
            assert self.take(event) == "refused"
        else:
            self.take(event)

    @precondition(lambda self: self.late)
    @rule(member=MEMBER, lines=LINES, back=DAYS_BACK, percent=st.integers(1, 100))
    def come_back_before_the_sale_is_known(self, member: str, lines: list[tuple[int, int, Event]], back: int, percent: int) -> None:
        sale = self.sale(member, lines, self.at(back))
        assert self.take(self.return_of(sale["data"]["receipt_id"], percent, self.at(0))) == "waiting"
        self.take(sale)

    @precondition(lambda self: self.left)
    @rule(which=st.integers(0, 99))
    def void(self, which: int) -> None:
        sale = list(self.left)[which % len(self.left)]
        del self.left[sale]
        self.happen("receipt.void", self.at(), {"receipt_id": sale})

    @rule(member=MEMBER, name=st.sampled_from(ACTIVITIES), n=st.integers(0, 7), stars=st.integers(3, 5), back=DAYS_BACK)
    def act(self, member: str, name: str, n: int, stars: int, back: int) -> None:
        data = {"member": {"scheme": "member", "value": member}, "quantity": n, "stars": stars}
        self.happen(f"activity.{name}", self.at(back), data)

    @rule(member=MEMBER, segment=st.sampled_from(["families", "seniors", "vip"]), birthday=st.integers(0, 60))
    def enrol(self, member: str, segment: str, birthday: int) -> None:
        at = self.at()
        data = {"member_id": member, "birth_date": f"{FIRST.date().replace(year=1992) + timedelta(days=birthday)}",
                "attributes": {"segments": [segment], "city": "Gdynia", "vip": True}}  # fmt: skip
        self.happen("member.enrolled", at, data | ({"household_id": HOUSEHOLD[member]} if member in HOUSEHOLD else {}))

    @rule(member=MEMBER, points=POINTS, days=st.integers(0, 6))
    def hold(self, member: str, points: int, days: int) -> None:
        at = self.at()
        name, until = f"H{self.number}", (at + timedelta(days=days)).isoformat()
        self.holds.append((name, member))
        data = {"hold_id": name, "member": {"scheme": "member", "value": member}, "points": points, "expires_at": until}
        self.happen("points.hold", at, data)

    @precondition(lambda self: self.holds)
    @rule()
    def release(self) -> None:
        name, member = self.holds.pop()
        self.happen("points.release", self.at(), {"hold_id": name, "member": {"scheme": "member", "value": member}})

    @rule(member=MEMBER, points=POINTS, with_hold=st.booleans())
    def redeem(self, member: str, points: int, with_hold: bool) -> None:
        hold = {"hold_id": self.holds.pop()[0]} if with_hold and self.holds and self.holds[-1][1] == member else {}
        data = {"redemption_id": f"D{self.number + 1}", "member": {"scheme": "member", "value": member}, "points": points}
        self.happen("points.redeem", self.at(), data | hold)

    @rule(member=MEMBER, points=st.integers(-60, 120), unit=st.sampled_from(["points", "stamps"]), back=DAYS_BACK)
    def adjust(self, member: str, points: int, unit: str, back: int) -> None:
        data = {"member": {"scheme": "member", "value": member}, "points": points, "unit": unit, "reason": "why", "actor": "desk"}
        at = self.at(back)
        self.happen("points.adjust", at, data | {"adjustment_id": f"A{self.number}"})

    @precondition(lambda self: not self.late)
    @rule(member=MEMBER, to=MEMBER, points=POINTS)
    def transfer(self, member: str, to: str, points: int) -> None:
        data = {"member": {"scheme": "member", "value": member}, "to": {"scheme": "member", "value": to}, "points": points}
        at = self.at()
        self.happen("points.transfer", at, data | {"transfer_id": f"T{self.number}"})

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 99))
    def repeat(self, which: int) -> None:
        assert self.take(self.known[which % len(self.known)]) == "duplicate"

    @invariant()
    def balance_is_the_sum_of_entries_and_lots_less_debt(self) -> None:
        conserved(self.snapshot)
        balances = {(account, unit): held.balance for account, units in self.snapshot.accounts.items() for unit, held in units.items()}
        assert {key: points for key, points in balances.items() if points} == {key: points for key, points in self.sums.items() if points}

    @invariant()
    def ledger_alone_says_the_same(self) -> None:
        assert state(self.mirror) == state(self.snapshot)
        assert self.mirror.members == self.snapshot.members
        assert self.mirror.sheets == self.snapshot.sheets

    def teardown(self) -> None:
        wanted = outcome(self.parsed, self.events, own_account)
        assert units_of(self.snapshot) == wanted.accounts
        assert self.codes == Counter(wanted.rejected.values())
        tiers = {name: member.tier for name, member in self.snapshot.members.items() if member.tier}
        assert tiers == {name: tier for name, tier in wanted.tiers.items() if tier and name in self.snapshot.members}


def own_account(event: Event) -> str | None:
    """Whose event it is: here nothing goes to a household's account."""
    found: str | None = event["data"].get("member_id") or event["data"].get("member", {}).get("value")
    return found


TestTill = Till.TestCase
TestTill.settings = settings(
    max_examples=LIVES, stateful_step_count=40, deadline=None, derandomize=not MANY, suppress_health_check=list(HealthCheck)
)
