"""Page views and receipts become decisions, outcomes and triggers, on a real Kafka and Redis, each once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.member_events import said, sealed
from tests.test_program_file import HEAD
from tests.test_program_offers import offer, program
from tillstream.embedded.broker import Broker
from tillstream.embedded.redis import Redis as RedisProcess
from tillstream.kernels.facts import fact_of, subject_of
from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offer_occasions import RECEIPT, Article, Happened
from tillstream.kernels.timetable import Timetable
from tillstream.models.bandit import probabilities
from tillstream.schemas.offers import (
    BoughtEvent,
    Cause,
    Choice,
    Decided,
    DecidedEvent,
    Judgement,
    OutcomeEvent,
    TriggeredEvent,
    decode_outcome,
    decode_trigger,
)
from tillstream.schemas.program_file import parse_program
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.offers import BUDGETS, FILLED, OfferStore
from tillstream.sinks.redis import RedisEmptied, connect, load_library
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.decide import Decide, Scorer
from tillstream.streams.offer_cases import Case
from tillstream.streams.offers_restore import Triggered, restore_offers
from tillstream.streams.rebuild import empty
from tillstream.streams.stats import Stats
from tillstream.streams.topics import OUTCOMES, TRIGGERS, ensure_topics

AT = datetime(2026, 3, 17, 12, tzinfo=UTC)
PARTITIONS = 2


class Servers(NamedTuple):
    broker: Broker
    redis: RedisProcess


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder: Path = tmp_path_factory.mktemp("decide")
    there = Servers(Broker(folder / "broker"), RedisProcess(folder / "redis"))
    for server in there:
        server.start()
    ensure_topics(there.broker.address, PARTITIONS, 1)
    yield there
    for server in reversed(there):
        server.stop()


class Room:
    """A decider over emptied Redis, and what it appended since it began."""

    def __init__(self, servers: Servers, client: Any, writer: Writer, text: str, scorer: Scorer) -> None:
        self.kafka = {"bootstrap.servers": servers.broker.address}
        self.store, self.registry, self.stats = OfferStore(client), RegistryStore(client), Stats()
        self.timetable = Timetable([parse_program(text)])
        self.decider = Decide(lambda: self.timetable, self.store, self.registry, writer, self.stats, scorer, PARTITIONS)
        self.began = {topic: ends(self.kafka, topic) for topic in (OUTCOMES, TRIGGERS)}

    async def enrol(self, member: str, *consents: str, **attributes: Any) -> None:
        agreed = dict.fromkeys(consents or ("marketing", "personalised", "profiling"), True)
        event = sealed(said(f"enrol-{member}", "enrolled", 1, member_id=member, consents=agreed, attributes=attributes))
        await self.registry.note([(subject_of(event), fact_of(event))])

    async def withdraw(self, member: str) -> None:
        event = sealed(said(f"no-{member}", "consent_changed", 2, member_id=member, consents={"marketing": False}))
        await self.registry.note([(subject_of(event), fact_of(event))])

    async def decide(self, *cases: Case, late: timedelta = timedelta()) -> None:
        await self.decider.decide(cases, instant_ms(max(case.happened.at for case in cases) + late))

    async def restore(self, now: datetime = AT) -> None:
        """As a worker that starts does."""
        self.store.token = await restore_offers(OfferView(self.store.client), self.registry, self.kafka, self.timetable, now)

    def outcomes(self) -> list[OutcomeEvent]:
        return [decode_outcome(raw) for raw in read(self.kafka, OUTCOMES, self.began[OUTCOMES])]

    def decided(self, offer_id: str) -> list[DecidedEvent]:
        """Decisions on an offer that only one test has: the topic's end is told a batch too early."""
        return [event for event in self.outcomes() if isinstance(event, DecidedEvent) and event.data.offer_id == offer_id]

    def triggers(self) -> list[TriggeredEvent]:
        return [decode_trigger(raw) for raw in read(self.kafka, TRIGGERS, self.began[TRIGGERS])]


def ends(kafka: dict[str, Any], topic: str) -> list[int]:
    consumer = Consumer({**kafka, "group.id": "looks"})
    partitions = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    found = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in range(partitions)]
    consumer.close()
    return found


def read(kafka: dict[str, Any], topic: str, began: list[int]) -> list[bytes]:
    there = ends(kafka, topic)
    consumer = Consumer({**kafka, "group.id": "looks", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, first) for number, first in enumerate(began)])
    found: list[bytes] = []
    while len(found) < sum(there) - sum(began):
        found += [message.value() or b"" for message in consumer.consume(100, 0.5) if not message.error()]
    consumer.close()
    return found


def click(name: str, member: str = "m1", at: datetime = AT, category: str = "dairy/milk", kind: str = "view_item") -> Case:
    happened = Happened("web/shop", name, f"web.{kind}", kind, at, [Article("1", category)], visitor_id=f"v-{member}", session_id="s")
    return Case(happened, member, member, lambda goods, at: {"hour": float(at.hour)})


def sale(name: str, *articles: Article, member: str = "m1", at: datetime = AT) -> Case:
    happened = Happened("tills/1", name, "receipt.sale", RECEIPT, at, articles, receipt_id=name)
    return Case(happened, member, member)


def within(servers: Servers, text: str, work: Callable[[Room], Awaitable[None]], scorer: Scorer | None = None) -> None:
    async def run() -> None:
        client = connect(servers.redis.address)
        await client.flushall()
        await load_library(client, servers.redis.address)
        writer = Writer({"bootstrap.servers": servers.broker.address})
        await writer.start()
        try:
            await work(Room(servers, client, writer, text, scorer or NoModels()))
        finally:
            await writer.stop()
            await client.aclose()

    asyncio.run(run())


def test_page_view_of_a_member_becomes_one_decision_and_one_trigger_also_when_it_comes_again(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await room.enrol("m1")
        await room.decide(click("e-1"))
        await room.decide(click("e-1"), click("e-2"))
        decided, again = room.outcomes()
        assert decided == again  # The second time by the same id: readers drop it.
        assert isinstance(decided, DecidedEvent)
        assert decided.data.consents == {"marketing": True, "personalised": True}
        assert decided.data.cause.why == "view_item of dairy/**"
        trigger = room.triggers()[0]
        assert trigger.id == trigger.data.decision_id == decided.data.decision_id
        assert (trigger.data.visitor_id, trigger.data.worth.points) == ("v-m1", 200)
        assert trigger.data.expires_at == AT + timedelta(days=1)
        assert room.stats.offers["cheese"] == {"treated": 2, "already_has": 1}

    within(servers, program(offer()), work)


def test_withdrawn_consent_and_unmet_occasions_make_no_decision_and_are_counted(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await room.enrol("m1")
        await room.withdraw("m1")
        await room.decide(click("e-1"), click("e-2", category="fish"), click("e-3", kind="search"), click("e-4", "stranger"))
        await room.decide(click("e-5"), late=timedelta(minutes=6))
        assert room.outcomes() == []
        assert room.stats.offers["cheese"] == {"no_consent_marketing": 2, "too_old": 1}

    within(servers, program(offer()), work)


def test_third_look_within_the_time_leads_to_the_offer(servers: Servers) -> None:
    looks = 'trigger = { event = ["view_item"], category = ["dairy/**"], count = 3, minutes = 15 }'

    async def work(room: Room) -> None:
        await room.enrol("m1")
        for minute in (0, 1, 16, 17):
            await room.decide(click(f"e-{minute}", at=AT + timedelta(minutes=minute)))
            await room.decide(click(f"e-{minute}", at=AT + timedelta(minutes=minute)))  # Again: the same look.
        assert room.outcomes() == []
        await room.decide(click("e-18", at=AT + timedelta(minutes=18)))
        (decided,) = room.outcomes()
        assert isinstance(decided, DecidedEvent)
        assert decided.data.cause.event_id == "e-18"

    within(servers, program(offer(trigger=looks)), work)


def test_control_group_is_decided_on_and_gets_nothing_and_its_purchases_count(servers: Servers) -> None:
    async def work(room: Room) -> None:
        members = [f"m{number}" for number in range(30)]
        for member in members:
            await room.enrol(member)
        await room.decide(*(click("e", member) for member in members))
        bought = [sale("r", Article("1", "dairy/cheese/blue", 500), Article("2", "fish", 9), member=member, at=AT + timedelta(hours=1))
                  for member in members]  # fmt: skip
        await room.decide(*bought)
        found = room.outcomes()
        decided = {event.data.decision_id: event.data for event in found if isinstance(event, DecidedEvent)}
        control = [data for data in decided.values() if data.group == "control"]
        assert len(decided) == 30
        assert 5 <= len(control) <= 25
        assert {event.data.member_id for event in room.triggers()} == {data.member_id for data in decided.values() if data not in control}
        answers = [event.data for event in found if isinstance(event, BoughtEvent)]
        assert {answer.decision_id for answer in answers} == decided.keys()
        assert {(answer.receipt_id, answer.amount) for answer in answers} == {("r", 500)}

    within(servers, program(offer("control = 50")), work)


def test_first_purchase_leads_to_an_offer_and_the_second_does_not(servers: Servers) -> None:
    first = 'trigger = { on = "receipt", category = ["fish"], min_amount = 100, first_purchase = true }'

    async def work(room: Room) -> None:
        await room.enrol("m1")
        await room.enrol("m2")
        await room.decide(sale("r1", Article("1", "fish", 99)), sale("r2", Article("1", "fish", 100)))  # The first is too small.
        await room.decide(sale("r3", Article("1", "fish", 100), member="m2"))
        assert [event.data.member_id for event in room.outcomes() if isinstance(event, DecidedEvent)] == ["m2"]

    within(servers, program(offer("", trigger=first)), work)


class NoModels:
    """Nobody is scored."""

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        """None, of whatever model."""
        return None

    def lessons(self, offer_id: str) -> int:
        return 0


class Fixed:
    """A model that says the same of everybody."""

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        return Judgement(model=model, version="7", score=0.4, features=features)

    def lessons(self, offer_id: str) -> int:
        return 7


def test_decision_carries_what_the_model_said_and_looked_at_on_the_members_clock(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await room.enrol("m1", time_zone="Asia/Tokyo")
        await room.decide(click("e-1"))
        (decided,) = room.outcomes()
        assert isinstance(decided, DecidedEvent)
        assert decided.data.judgement == Judgement(model="m", version="7", score=0.4, features={"hour": 21.0})
        assert decided.data.consents == {"marketing": True, "personalised": True, "profiling": True}

    within(servers, program(offer('model = "m"\nmin_score = 0.4')), work, Fixed())


def test_emptied_redis_is_restored_from_outcomes_and_caps_and_budgets_hold(servers: Servers) -> None:
    text = program(offer("budget = 3\ncap = { per_member = { max = 1, days = 7 } }\nvalid_for = { minutes = 1 }"))

    async def work(room: Room) -> None:
        for member in ("a", "b", "c"):
            await room.enrol(member)
        await room.decide(click("r-1", "a"), click("r-1", "b"))
        before = (await room.store.look([], [], ["a", "b"])).made
        members = [key async for key in room.store.client.scan_iter(match="*:made:*")]
        await room.store.client.delete(BUDGETS, *members)
        await room.restore()
        assert (await room.store.look([], [], ["a", "b"])).made == before
        # Offers of other tests have this id as well; a budget that took more than it did is never overspent.
        assert (await OfferView(room.store.client).spent())["cheese"] >= 2
        room.stats.offers.clear()
        await room.decide(click("r-2", "a", at=AT + timedelta(hours=1)))
        assert room.stats.offers["cheese"] == {"cap_member": 1}

    within(servers, text, work)


class Dying(Writer):
    """A worker that dies after its decisions were taken, before they are appended."""

    async def append(self, records: Sequence[Record]) -> None:
        """Raises, as often as it is asked."""
        raise ConnectionError


def test_batch_judged_again_after_a_crash_tells_all_that_it_had_taken(servers: Servers) -> None:
    text = program(offer("cap = { per_member = { max = 2, days = 1 } }\nvalid_for = { minutes = 1 }\nbudget = 9", "brief"))

    async def work(room: Room) -> None:
        await room.enrol("m1")
        batch = [click("e-1"), click("e-2", at=AT + timedelta(minutes=1)), click("e-3", at=AT + timedelta(minutes=2))]
        alive, room.decider.writer = room.decider.writer, Dying(room.kafka)
        with pytest.raises(ConnectionError):
            await room.decide(*batch)
        room.decider.writer = alive
        await room.decide(*batch)
        assert [event.data.cause.event_id for event in room.decided("brief")] == ["e-1", "e-2"]
        assert await OfferView(room.store.client).spent() == {"brief": 2}

    within(servers, text, work)


def test_event_judged_again_in_a_restored_redis_takes_no_budget_twice(servers: Servers) -> None:
    text = program(offer("budget = 5", "once-more"))

    async def work(room: Room) -> None:
        now = datetime.now(UTC)
        await room.enrol("m1")
        await room.decide(click("e-1", at=now))
        for pattern in ("{b}:*", "*:made:*"):
            for key in [key async for key in room.store.client.scan_iter(match=pattern)]:
                await room.store.client.delete(key)
        await room.restore(now)
        await room.decide(click("e-1", at=now))
        first, again = room.decided("once-more")
        assert first == again
        assert (await OfferView(room.store.client).spent())["once-more"] == 1

    within(servers, text, work)


def test_redis_that_came_back_from_an_older_dump_is_filled_with_what_was_decided_since(servers: Servers) -> None:
    text = program(offer("budget = 5\nvalid_for = { minutes = 1 }", "older"))

    async def work(room: Room) -> None:
        client, now = room.store.client, datetime.now(UTC)
        await room.enrol("m9")
        await room.restore(now)
        await room.decide(click("o-1", "m9", at=now))
        held = {key: await client.dump(key) async for key in client.scan_iter()}
        await room.decide(click("o-2", "m9", at=now + timedelta(minutes=1)), click("o-3", "m9", at=now + timedelta(minutes=2)))
        whole = (await room.store.look([], [], ["m9"])).made
        for key in [key async for key in client.scan_iter()]:
            await client.delete(key)
        for key, dump in held.items():
            await client.restore(key, 3_600_000, dump)
        await room.restore(now)
        assert len(whole["m9"]) == 3
        assert (await room.store.look([], [], ["m9"])).made == whole
        assert (await OfferView(client).spent())["older"] == 3

    within(servers, text, work)


def test_decisions_that_were_taken_while_redis_was_emptied_are_told_to_nobody(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await room.enrol("m1")
        await room.restore()
        await room.store.client.delete(FILLED)
        with pytest.raises(RedisEmptied):
            await room.decide(click("e-1"))
        assert room.decided("nobody") == []

    within(servers, program(offer("", "nobody")), work)


def test_repeats_of_decisions_count_once_and_what_is_remembered_is_bounded() -> None:
    def decided(number: int) -> DecidedEvent:
        data = Decided(
            decision_id=f"d-{number}", offer_id="o", program_id="p", program_version="v", member_id="m", account_id="m", channel="c",
            group="treated", cause=Cause(source="s", event_id="e", type="t", why=""), answer_by=AT,
        )  # fmt: skip
        return DecidedEvent(specversion="1.0", id=f"d-{number}/decided", source="s", time=AT, data=data)

    triggered = Triggered(Timetable([parse_program(program())]))
    for number in range(1_000):
        triggered.add(decided(number), number * 60_000)
        triggered.add(decided(max(0, number - 60)), number * 60_000)  # Judged again an hour later.
    assert triggered.counts == {"o": 1_000}
    assert len(triggered.lately) < 200


def test_rebuild_leaves_the_budgets_of_offers_to_those_who_restore_them(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await room.enrol("a")
        await room.restore()
        await room.decide(click("rebuilt-1", "a"))
        view = OfferView(room.store.client)
        before = await view.spent()
        await empty(room.store.client, PARTITIONS)
        assert await view.spent() == before
        await room.enrol("a")
        await room.restore()
        assert (await view.spent())["rebuilt"] == before["rebuilt"] == 1

    within(servers, program(offer("budget = 3", "rebuilt")), work)


class ByOffer:
    """A model for each offer, of so many lessons, that says the same of everybody."""

    def __init__(self, lessons: int, **scores: float) -> None:
        self.taught = lessons
        self.scores = scores

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        return Judgement(model=model, version="7", score=self.scores[offer_id], features=features)

    def lessons(self, offer_id: str) -> int:
        return self.taught


BANDIT = HEAD + '[offer_choice]\npolicy = "bandit"\n'


async def each(room: Room, members: list[str]) -> None:
    """A page view of each; one by one, since the embedded broker's end of a topic counts what was appended together as one record."""
    for member in members:
        await room.decide(click(f"e-{member}", member))


def own(room: Room) -> list[Decided]:
    """The decisions by the room's program: for the same reason those of other tests may be among what is read."""
    version = room.timetable.versions[0].version
    return [event.data for event in room.outcomes() if isinstance(event, DecidedEvent) and event.data.program_version == version]


def test_offers_of_a_bandit_are_drawn_as_often_as_their_recorded_probabilities_say(servers: Servers) -> None:
    scorer = ByOffer(10, bread=0.2, cheese=0.35, tea=0.05)
    text = program(*(offer('model = "m"', name) for name in scorer.scores), head=BANDIT)
    members = [f"m{number}" for number in range(200)]

    async def work(room: Room) -> None:
        for member in members:
            await room.enrol(member)
        await each(room, members)
        decided = own(room)
        assert len(decided) == 200
        wanted = probabilities(scorer.scores, 10)
        for data in decided:
            assert data.choice == Choice(policy="bandit", probability=wanted[data.offer_id], lessons=10, scores=scorer.scores)
            assert data.judgement is not None
            assert data.judgement.exploration == wanted[data.offer_id]
        counted = Counter(data.offer_id for data in decided)
        for name, share in wanted.items():
            assert abs(counted[name] - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5, name
        # From the topic's first record, into emptied Redis: the same decisions.
        keys = [key async for key in room.store.client.scan_iter(match="*:made:*")]
        await room.store.client.delete(*keys)
        await each(room, members)
        assert own(room) == [*decided, *decided]

    within(servers, text, work, scorer)


def test_offer_drawn_whose_budget_is_spent_gives_way_to_the_next_one_drawn(servers: Servers) -> None:
    scorer = ByOffer(0, bread=0.2, cheese=0.2, tea=0.2)
    text = program(offer('model = "m"\nbudget = 1', "bread"), *(offer('model = "m"', name) for name in ("cheese", "tea")), head=BANDIT)
    members = [f"m{number}" for number in range(30)]

    async def work(room: Room) -> None:
        for member in members:
            await room.enrol(member)
        await each(room, members)
        decided = own(room)
        assert [data.offer_id for data in decided].count("bread") == 1
        second = [data for data in decided if data.choice is not None and len(data.choice.scores) == 2]
        assert len(second) == room.stats.offers["bread"]["budget_spent"] > 0
        assert {data.choice.probability for data in second if data.choice is not None} == {0.5}
        first = [data.choice.probability for data in decided if data not in second and data.choice is not None]
        assert first == pytest.approx([1 / 3] * len(first))

    within(servers, text, work, scorer)


def test_offers_of_a_program_without_a_policy_or_of_another_channel_are_not_drawn(servers: Servers) -> None:
    scorer = ByOffer(0, bread=0.2, cheese=0.35, tea=0.9)
    two = program(offer('model = "m"', "bread"), offer('model = "m"', "cheese"))
    apart = program(
        offer('model = "m"', "bread"), offer('model = "m"', "cheese"), offer('model = "m"\nchannel = "sms"', "tea"), head=BANDIT
    )
    members = [f"m{number}" for number in range(20)]

    async def best(room: Room) -> None:
        for member in members:
            await room.enrol(member)
        await each(room, members)
        found = own(room)
        assert len(found) == 20
        assert all(data.choice is None and data.judgement is not None and data.judgement.exploration == 1 for data in found)
        offers = room.timetable.versions[0].program.offers
        assert {data.offer_id for data in found} == {max((offer.id for offer in offers), key=scorer.scores.__getitem__)}

    within(servers, two, best, scorer)
    within(servers, apart, best, scorer)
