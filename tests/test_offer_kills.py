"""kill -9 of workers that decide on offers, Redis emptied in between: each occasion is decided once, caps and budgets hold to the point.

What is right follows from the topics alone: page views and receipts, in the order of their partitions, through the kernel. A member here
has one browser, so its order is that of one partition.
"""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from tests.pipeline_harness import PARTITIONS, Event, Stage, stage, until
from tests.test_observe import envelope, observed
from tests.test_program_offers import offer
from tillstream.installation import WorkerProcess
from tillstream.kernels.instants import instant_ms, instant_of
from tillstream.kernels.offer_occasions import Happened, matches, of_click, of_sale
from tillstream.kernels.offering import Made, Occasioned, Person, is_control, offers_in_force, verdict
from tillstream.kernels.timetable import Timetable
from tillstream.models.features.purchases import Purchases, bought, decode_purchases
from tillstream.models.features.visits import decode_visits
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.member_state import Profile
from tillstream.schemas.offers import DecidedEvent, TriggeredEvent, decode_outcome, decode_trigger
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import published
from tillstream.sinks.features import PURCHASES, VISITS
from tillstream.sinks.offers import BUDGETS
from tillstream.sinks.redis import connect
from tillstream.sinks.writer import PRODUCER
from tillstream.streams.groups import partition_of
from tillstream.streams.observe import decode_batch as decode_clicks
from tillstream.streams.observe import fold
from tillstream.streams.programs import publish
from tillstream.streams.topics import CLICKSTREAM, OUTCOMES, TRANSACTIONS, TRIGGERS
from tillstream.verify_groups import Finding
from tillstream.verify_offers import verify_offers

MEMBERS = 40
PAGES = 12
"""Of one member: some lead to an offer, most come while it is still open."""

SPACED = timedelta(seconds=9)
BUDGET = 15
KILLS: tuple[tuple[float, tuple[int, ...]], ...] = ((0.1, (0,)), (0.4, (1,)), (0.7, (0, 1)))
"""When so large a share has been sent, these workers are killed; before the last start Redis is emptied."""

EVERY_S = 0.025
"""Between two events: the last ones are sent when the last worker was killed."""

DECIDED_S = 40.0

ACTED = (*(f"{{{letter}*}}:*" for letter in "ovdsf"), "{b}:offers*", "{b}:took:*", "tillstream:offer*")
"""What workers of the role keep in Redis."""

HEAD = """
rules = []
[program]
id = "offers"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_days = 20 }
"""

OFFERS = (
    HEAD
    + offer("cap = { per_member = { max = 2, days = 3 } }\nvalid_for = { minutes = 1 }\ncontrol = 20")
    + offer(f"budget = {BUDGET}", "scarce", trigger='trigger = { event = ["search"] }')
    + offer('cap = { per_member = { max = 1, days = 3 } }\nchannel = "till"', "receipt", trigger='trigger = { on = "receipt" }')
)

SEED = random.randrange(1_000_000)


class Said(NamedTuple):
    """The topics `outcomes` and `triggers`: decisions by id, triggers, how often each record stands there."""

    decided: dict[str, DecidedEvent]
    triggers: dict[str, TriggeredEvent]


def said(here: Stage) -> Said:
    outcomes = [decode_outcome(message.value() or b"") for message in here.records(OUTCOMES, 1)]
    triggers = [decode_trigger(message.value() or b"") for message in here.records(TRIGGERS)]
    decided = [event for event in outcomes if isinstance(event, DecidedEvent)]
    return Said({event.data.decision_id: event for event in decided}, {event.id: event for event in triggers})


def enrolled(member: str, at: datetime) -> Event:
    consents = dict.fromkeys(("marketing", "personalised", "profiling"), True)
    return envelope("member.enrolled", f"enrol {member}", at - timedelta(days=9), "crm", {"member_id": member, "consents": consents})


def page(member: str, number: int, at: datetime) -> Event:
    name = "search" if number % 4 == 3 else "view_item"
    data: dict[str, Any] = {
        "visitor_id": f"v-{member}", "session_id": "s", "page_location": "/", "member": {"scheme": "member", "value": member},
        "items": [{"item_id": "s1", "item_category": "dairy/milk"}],
    }  # fmt: skip
    return envelope(f"web.{name}", f"{member} {number}", at, "web/shop", data)


def sale(member: str, number: int, at: datetime) -> Event:
    data = {
        "receipt_id": f"{member} {number}", "store_id": "1", "register_id": "1", "business_date": at.date().isoformat(), "currency": "PLN",
        "issued_at": at.isoformat(), "member": {"scheme": "member", "value": member}, "tenders": [],
        "lines": [{"line_no": 1, "sku": "s2", "category": "fish", "quantity_milli": 1000, "amount": 900 + number}],
    }  # fmt: skip
    return envelope("receipt.sale", f"sale {member} {number}", at, "tills/1", data)


class Shop(Thread):
    """Sends page views and receipts, those of a member in order, until all are sent."""

    def __init__(self, here: Stage, chance: random.Random) -> None:
        super().__init__()
        self.here = here
        now = datetime.now(UTC).replace(microsecond=0)
        pages = [(now - SPACED * (PAGES - number), number) for number in range(PAGES)]
        self.turns: list[tuple[Event, str, str]] = []
        for at, number in pages:
            members = [f"m{each}" for each in range(MEMBERS)]
            chance.shuffle(members)
            self.turns += [(page(member, number, at), CLICKSTREAM, f"v-{member}") for member in members]
            self.turns += [(sale(f"b{member}", number, at), "pos.receipts", "till") for member in members if number % 4 == 0]
        self.stopped = Signal()
        self.sent = 0

    def run(self) -> None:
        producer = Producer({**PRODUCER, **self.here.kafka})
        for event, topic, key in self.turns:
            if self.stopped.wait(EVERY_S):
                return
            producer.produce(topic, json.dumps(event).encode(), key.encode())
            producer.poll(0)
            self.sent += 1
        assert producer.flush(DECIDED_S) == 0


def emptied(here: Stage) -> None:
    """Deletes all that workers of the role keep; members and accounts stay."""
    with here.client() as client:
        for pattern in ACTED:
            for key in client.scan_iter(match=pattern):
                client.delete(key)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as there, there.worker():
        publish(there.kafka, [published(parse_program(OFFERS), OFFERS, datetime.now(UTC))])
        yield there


@pytest.mark.slow
def test_offer_workers_killed_and_redis_emptied_decide_each_occasion_once_within_caps_and_budgets(here: Stage, tmp_path: Path) -> None:
    workers = [WorkerProcess(here.config, "offers", tmp_path / f"offers-{number}") for number in range(2)]
    now = datetime.now(UTC)
    here.send([enrolled(f"{kind}{number}", now) for kind in ("m", "bm") for number in range(MEMBERS)])
    here.settle()
    shop = Shop(here, random.Random(SEED))
    try:
        for worker in workers:
            worker.start()
        here.send([page("bm0", 1, datetime.now(UTC))], CLICKSTREAM, "v-bm0")
        until(lambda: here.ends(OUTCOMES, 1)[0] > 0, "the first decision", DECIDED_S, workers[0])
        shop.start()
        for share, victims in KILLS:
            until(lambda share=share: shop.sent >= share * len(shop.turns), "events sent", DECIDED_S)
            for victim in victims:
                workers[victim].kill()
            if len(victims) == len(workers):
                emptied(here)
            for victim in victims:
                workers[victim].start()
        shop.join()
        observed(here)
    finally:
        shop.stopped.set()
        for worker in workers:
            worker.stop()
    assert_right(here)


def assert_right(here: Stage) -> None:
    found, timetable = said(here), Timetable([parse_program(OFFERS)])
    expected = replayed(here, timetable)
    scarce = {name for name, (_, offer_id, _) in expected.items() if offer_id == "scarce"}
    made = {name: (event.data.member_id, event.data.offer_id, event.data.group) for name, event in found.decided.items()}
    assert {name: one for name, one in made.items() if one[1] != "scarce"} == {
        name: one for name, one in expected.items() if name not in scarce
    }, SEED
    taken = {name for name, one in made.items() if one[1] == "scarce"}
    assert taken <= scarce
    assert len(taken) == BUDGET < len(scarce), SEED
    assert found.triggers.keys() == {name for name, (_, _, group) in made.items() if group == "treated"}
    assert max(Counter((member, offer_id) for member, offer_id, _ in made.values()).values()) <= 2
    with here.client() as client:
        assert int(client.hget(BUDGETS, "scarce")) == BUDGET
    assert asyncio.run(verified(here)) == []
    assert_features_equal(here)


async def verified(here: Stage) -> list[Finding]:
    """What `verify` finds wrong of decisions and budgets."""
    async with connect(here.config.redis) as client:
        return (await verify_offers(here.kafka, client)).findings


def replayed(here: Stage, timetable: Timetable) -> dict[str, tuple[str, str, str]]:
    """What is to be decided, budgets aside: (member, offer, group) by decision."""
    made: dict[str, list[Made]] = defaultdict(list)
    found = {}
    for member, happened in occasions(here):
        placed = offers_in_force(timetable, happened.at.astimezone(timetable.zone).date())
        met = matches(placed, happened)
        consents = dict.fromkeys(("marketing", "personalised", "profiling"), True)
        person = Person(member, member, "", Profile(), consents)
        occasion = Occasioned(happened.source, happened.event_id, happened.at, {match.placed.offer.id: match.why for match in met})
        fit = verdict([match.placed for match in met], timetable.zone, occasion, person, lambda _: None, made[member]).fit
        if fit:
            first = fit[0].made
            made[member].append(first)
            group = "control" if is_control(fit[0].placed.offer, member) else "treated"
            found[first.decision_id] = (member, first.offer_id, group)
    return found


def occasions(here: Stage) -> Iterator[tuple[str, Happened]]:
    for one in decode_clicks(here.records(CLICKSTREAM)):
        assert one.click.data.member is not None
        yield one.click.data.member.value, of_click(one.click, instant_of(one.at_ms))
    seen_receipts = set()
    for message in here.records(TRANSACTIONS):
        event = decode(message.value() or b"")
        if isinstance(event, SaleEvent) and event.data.receipt_id not in seen_receipts:
            seen_receipts.add(event.data.receipt_id)
            yield str(event.accountid), of_sale(event)


def assert_features_equal(here: Stage) -> None:
    """What Redis has of visitors and members is what the topics make of them."""
    folded = fold(decode_clicks(here.records(CLICKSTREAM)), {}, here.config.visitor_events_max)
    visits = {one.arrived.click.data.visitor_id: one.visits for one in folded}
    purchases: dict[str, Purchases] = {}
    for message in here.records(TRANSACTIONS):
        event = decode(message.value() or b"")
        if isinstance(event, SaleEvent) and isinstance(event.accountid, str):
            at_ms = min(instant_ms(event.data.issued_at), message.timestamp()[1])
            purchases[event.accountid] = bought(purchases.get(event.accountid), event, at_ms)
    assert (len(visits), len(purchases)) == (MEMBERS + 1, MEMBERS)
    with here.client() as client:
        for name, state in visits.items():
            assert decode_visits(client.get(VISITS.key(partition_of(name, PARTITIONS), name))) == state, name
        for name, bought_so_far in purchases.items():
            assert decode_purchases(client.get(PURCHASES.key(partition_of(name, PARTITIONS), name))) == bought_so_far, name
