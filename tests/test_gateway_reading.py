"""Where a member stands, read from real servers: exactly what the stores say, in one round trip once it was read before."""

import asyncio
from datetime import UTC, datetime

import msgspec

from tests.redis_servers import RedisServer, redis_server_fixture
from tests.test_replies import client_of
from tillstream.gateway.reading import Hints, Keys, Look
from tillstream.gateway.standing import Standing, Standings, first_keys
from tillstream.kernels.facts import fact_of, subject_of
from tillstream.kernels.holdings import Holding
from tillstream.kernels.identities import Seal
from tillstream.kernels.posters import Posters
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import EnrolledEvent, MemberEvent, MergedEvent
from tillstream.schemas.members import Enrolled, Merged
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.receipts import Identity
from tillstream.sinks.redis import Redis, load_library
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.state import keys
from tillstream.streams.groups import partition_of

redis_server = redis_server_fixture(scope="function", kinds=("valkey", "cluster"))

PARTITIONS = 4
SEAL = Seal(b"sixteen characters")
PROGRAM = 'program = {id = "p", currency = "PLN", time_zone = "UTC"}\nunits.points = {}\nrules = []\n'
CARD = SEAL.sealed(Identity("card", "2900000000001"))
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def enrolment(member: str, household: str | None = None, *cards: str, day: int = 1) -> EnrolledEvent:
    data = Enrolled(member_id=member, identities=[SEAL.sealed(Identity("card", card)) for card in cards], household_id=household)
    return EnrolledEvent(specversion="1.0", id=f"e-{member}-{day}", source="crm", time=datetime(2026, 3, day, tzinfo=UTC), data=data)


async def noted(client: Redis, *events: MemberEvent) -> None:
    await RegistryStore(client).note([(subject_of(event), fact_of(event)) for event in events])


async def holds(client: Redis, account: str, points: int) -> None:
    units = msgspec.json.encode({"points": Holding({"": points}, balance=points)})
    await client.hset(keys(partition_of(account, PARTITIONS))[1], account, units)


def standings_of(client: Redis) -> Standings:
    return Standings(client, PARTITIONS, Posters(Timetable([parse_program(PROGRAM)])))


async def trips(standings: Standings, identity: Identity) -> tuple[Standing, int]:
    """Where somebody stands, and how many round trips it took."""
    count = 0
    before = Look.fetch

    async def counting(look: Look, wanted: Keys) -> None:
        nonlocal count
        trips = look.trips
        await before(look, wanted)
        count += look.trips - trips

    Look.fetch = counting  # type: ignore[method-assign]
    try:
        return await standings.of_identity(identity, NOW), count
    finally:
        Look.fetch = before  # type: ignore[method-assign]


def points(standing: Standing) -> int:
    return standing.units["points"].balance if "points" in standing.units else 0


def test_member_that_was_read_before_is_read_in_one_round_trip_and_as_it_is_now(redis_server: RedisServer) -> None:
    redis_server.flush()
    load(redis_server)

    async def run() -> None:
        client = client_of(redis_server)
        standings = standings_of(client)
        provisional = SEAL.account_of(Identity("card", "2900000000001"))
        await holds(client, provisional, 7)
        unknown, first = await trips(standings, CARD)
        assert (unknown.account, points(unknown), first) == (provisional, 7, 1)
        await noted(client, enrolment("m1", None, "2900000000001"))
        await holds(client, "m1", 30)
        taken_over, second = await trips(standings, CARD)
        assert (taken_over.account, points(taken_over)) == ("m1", 37)
        assert second > 1
        assert (await trips(standings, CARD))[1] == 1
        await holds(client, "m1", 31)
        again, fourth = await trips(standings, CARD)
        assert (points(again), fourth) == (38, 1)
        merge = Merged(from_="m1", into="m2")
        await noted(client, MergedEvent(specversion="1.0", id="x", source="crm", time=datetime(2026, 4, 1, tzinfo=UTC), data=merge))
        await holds(client, "m2", 100)
        merged, _ = await trips(standings, CARD)
        assert (merged.account, points(merged)) == ("m2", 138)
        assert (await trips(standings, CARD))[1] == 1
        await noted(client, enrolment("m2", "h", "2900000000002", day=5), enrolment("m2", "h", day=6))
        await client.aclose()

    asyncio.run(run())


def test_household_s_account_is_what_its_member_has_and_the_name_is_the_member_s(redis_server: RedisServer) -> None:
    redis_server.flush()
    load(redis_server)

    async def run() -> None:
        client = client_of(redis_server)
        event = enrolment("m1", "h1", "2900000000001")
        await noted(client, msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, attributes={"first_name": "Ada"})))
        await holds(client, "h1", 12)
        standing, _ = await trips(standings_of(client), CARD)
        assert (standing.account, points(standing), standing.profile["attributes"]) == ("h1", 12, {"first_name": "Ada"})
        await client.aclose()

    asyncio.run(run())


def load(server: RedisServer) -> None:
    """The function library, by which facts are noted."""

    async def run() -> None:
        client = client_of(server)
        await load_library(client, server.url)
        await client.aclose()

    asyncio.run(run())


def test_hints_forget_who_was_not_seen_for_long() -> None:
    hints, nothing = Hints(2), Keys()
    for subject in ("a", "b", "a", "c"):
        hints.note(subject, first_keys(Identity("member", subject)))
    assert [hints.of(subject, nothing) == nothing for subject in "abc"] == [False, True, False]
