"""Who is erased while its page views and receipts are under way: nothing of it stays, at whatever moment of a batch the erasure came."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Message

from tests.pipeline_harness import PARTITIONS, Stage, stage
from tests.test_observe import envelope
from tests.test_offer_kills import OFFERS, enrolled, page, sale
from tillstream.kernels.facts import fact_of, subject_of
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import key_of
from tillstream.kernels.sealing import seal_event
from tillstream.kernels.timetable import Timetable
from tillstream.models.features.visits import decode_visits
from tillstream.schemas.events import MemberEvent, decode
from tillstream.schemas.offers import Judgement, decode_trigger
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.registrations import Known, encode_known
from tillstream.simulate import IDENTITY_KEY
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import FeatureStore
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.offers import OfferStore
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.writer import Writer
from tillstream.streams.decide import Decide
from tillstream.streams.forget import Forget
from tillstream.streams.groups import partition_of
from tillstream.streams.observe import Observe
from tillstream.streams.offers_restore import restore_offers
from tillstream.streams.regard import Regard
from tillstream.streams.stats import Stats
from tillstream.streams.topics import CLICKSTREAM, MEMBERS, TRANSACTIONS, TRIGGERS

HOME = "home of them"
TRIPS_MAX = 40

KEPT_PREFIXES = (b"{o", b"{v", b"{d", b"{s", b"{f", b"tillstream:offer:")
"""Keys of features and offers; the ledger stays under the account's id, and of the member that it was erased."""

MARKS = (b"-", b"erased", {b"-": b""})
"""What stands for a minute where something was forgotten."""

TIMETABLE = Timetable([parse_program(OFFERS)])


class NoModels:
    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        """None, of whatever model."""
        return None

    def lessons(self, offer_id: str) -> int:
        """None."""
        return 0


class Room:
    """The agents of the role on a Redis of their own connection, and a registry that others write to meanwhile."""

    def __init__(self, here: Stage, client: Any, other: Any, writer: Writer) -> None:
        self.here, self.client, self.other = here, client, other
        features, registry = FeatureStore(client), RegistryStore(client)
        self.stats = Stats()
        decide = Decide(lambda: TIMETABLE, OfferStore(client), registry, writer, self.stats, NoModels(), PARTITIONS)
        self.observe = Observe(features, Directory(client), PARTITIONS, here.config.visitor_events_max, self.stats, decide)
        self.regard = Regard(features, registry, decide)
        self.forget = Forget(FeatureStore(other), RegistryStore(other), PARTITIONS, OfferView(other))

    async def note(self, event: dict[str, Any], *, forgotten: bool) -> None:
        """What `enrol` and, where somebody is to be forgotten, `forget` do."""
        raw = json.dumps(event).encode()
        sealed, _ = seal_event(decode(raw), raw, Seal(IDENTITY_KEY))
        assert isinstance(sealed, MemberEvent)
        registry = RegistryStore(self.other)
        await registry.note([(subject_of(sealed), fact_of(sealed))])
        if forgotten:
            facts = (await registry.facts("members", [subject_of(sealed)]))[subject_of(sealed)]
            name = f"{subject_of(sealed)} {key_of(sealed)}"
            record = encode_known(Known(subject_of(sealed), [fact.line for fact in facts]))
            await asyncio.to_thread(self.here.send, [record], MEMBERS, name)
            (found,) = [message for message in self.here.records(MEMBERS, 1) if message.key() == name.encode()]
            await self.forget.forget([found])

    def treated(self) -> int:
        """How many decisions led to a trigger."""
        return sum(counts["treated"] for counts in self.stats.offers.values())

    async def found(self, name: str) -> dict[bytes, Any]:
        """What Redis has in which `name` stands, in a key or a value."""
        found: dict[bytes, Any] = {}
        async for key in self.other.scan_iter():
            if key.startswith(KEPT_PREFIXES):
                kind = await self.other.type(key)
                read = {b"hash": self.other.hgetall, b"string": self.other.get, b"zset": lambda key: self.other.zrange(key, 0, -1)}[kind]
                value = await read(key)
                if value not in MARKS and (name.encode() in key or name in str(value)):
                    found[key] = value
        return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("erasures")) as there:
        yield there


def sent(here: Stage, topic: str, event: dict[str, Any], key: str) -> tuple[int, Sequence[Message]]:
    """A record, as an agent gets it."""
    here.send([event], topic, key)
    partition = partition_of(key, PARTITIONS)
    return partition, here.partition_records(topic, partition)[-1:]


def looked(here: Stage, member: str, number: int, browser: str) -> tuple[int, Sequence[Message]]:
    """A page view of a member, as an agent gets it."""
    event = page(member, number, datetime.now(UTC))
    event["data"]["visitor_id"] = browser
    return sent(here, CLICKSTREAM, event, browser)


def gone(member: str, at: datetime, *, erased: bool) -> dict[str, Any]:
    """The event by which a member is erased, or withdraws all consents."""
    if erased:
        return envelope("member.erased", f"erase {member}", at, "crm", {"member_id": member})
    consents = dict.fromkeys(("marketing", "personalised", "profiling"), False)
    return envelope("member.consent_changed", f"no {member}", at, "crm", {"member_id": member, "consents": consents})


def triggers(here: Stage, member: str) -> int:
    found = [decode_trigger(message.value() or b"").data.member_id for message in here.records(TRIGGERS)]
    return found.count(member)


def features_of(found: dict[bytes, Any]) -> list[bytes]:
    """The keys of states that tell what somebody did or bought."""
    visited = [key for key in found if b":visits:" in key and decode_visits(found[key]).total is not None]
    return [*visited, *(key for key in found if b":purchases:" in key)]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "household", "erased"), [("page", None, True), ("receipt", HOME, True), ("page", None, False)])
def test_erasure_or_withdrawal_at_any_moment_of_a_batch_holds(here: Stage, what: str, household: str | None, erased: bool) -> None:
    """Before each of the batch's round trips to Redis in turn, until there are no more of them. Who was erased leaves nothing, who withdrew
    no features; neither gets any offer from then on.
    """

    async def run() -> None:
        client, other, writer = connect(here.config.redis), connect(here.config.redis), Writer(here.kafka)
        await load_library(client, here.config.redis)
        await writer.start()
        ask, trips = client.ask, 0
        room = Room(here, client, other, writer)
        try:
            for at in range(TRIPS_MAX):
                member, now = f"{what[0]}{at}{'erased' if erased else 'withdrew'}", datetime.now(UTC)
                enrolment = enrolled(member, now)
                enrolment["data"]["household_id"] = household and f"{household} {member}"
                await room.note(enrolment, forgotten=False)
                account = enrolment["data"]["household_id"] or member
                if what == "page":
                    partition, batch = looked(here, member, 1, f"browser {at}")
                else:
                    partition, batch = sent(here, TRANSACTIONS, {"accountid": account, **sale(member, 1, now)}, account)
                trips, erasure = 0, gone(member, now + timedelta(seconds=1), erased=erased)

                async def asked(commands: Any, at: int = at, erasure: dict[str, Any] = erasure) -> Any:
                    nonlocal trips
                    trips += 1
                    if trips == at + 1:
                        await room.note(erasure, forgotten=True)
                    return await ask(commands)

                client.ask = asked
                await (room.observe.observe if what == "page" else room.regard.regard)(partition, batch)
                client.ask = ask
                if trips <= at:
                    assert at > 3
                    assert triggers(here, member) == 1
                    return
                found, before = await room.found(member), room.treated()
                assert (features_of(found), found if erased else {}) == ([], {}), f"before round trip {at + 1}"
                await room.observe.observe(*looked(here, member, 3, f"browser {at}"))
                found = await room.found(member)
                assert room.treated() == before
                assert (features_of(found), found if erased else {}) == ([], {}), f"before round trip {at + 1}, after it"
            pytest.fail("a batch has no end")
        finally:
            client.ask = ask
            await writer.stop()
            await client.aclose()
            await other.aclose()

    asyncio.run(run())


def test_restored_decisions_are_those_of_members_who_were_not_erased_since(here: Stage) -> None:
    async def run() -> None:
        client, writer = connect(here.config.redis), Writer(here.kafka)
        await load_library(client, here.config.redis)
        await writer.start()
        room, now = Room(here, client, client, writer), datetime.now(UTC)
        try:
            for member in ("stays", "goes", "returns"):
                await room.note(enrolled(member, now), forgotten=False)
                await room.observe.observe(*looked(here, member, 1, "browser"))
            for member in ("goes", "returns"):
                erasure = envelope("member.erased", f"erase {member}", now + timedelta(minutes=1), "crm", {"member_id": member})
                await room.note(erasure, forgotten=True)
            again = enrolled("returns", now) | {"id": "again", "time": (now + timedelta(minutes=2)).isoformat()}
            await room.note(again, forgotten=False)
            for pattern in ("{d*", "{b}*", "tillstream:offer*"):
                for key in [key async for key in client.scan_iter(match=pattern)]:
                    await client.delete(key)
            assert await restore_offers(OfferView(client), RegistryStore(client), here.kafka, TIMETABLE, now)
            made = (await OfferStore(client).look([], [], ["stays", "goes", "returns"])).made
            assert {member: len(held) for member, held in made.items()} == {"stays": 1, "goes": 0, "returns": 0}
            assert await room.found("goes") == {}
        finally:
            await writer.stop()
            await client.aclose()

    asyncio.run(run())
