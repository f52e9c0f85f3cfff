"""Decisions taken in Redis: as the kernel says, once for an event, never over a budget, over many workers at once."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from tests.redis_servers import RedisServer, redis_server_fixture
from tests.test_offering import ALL
from tests.test_program_offers import offer, program
from tillstream.kernels.offering import Candidate, Made, Occasioned, Person, no_room, offers_in_force, verdict
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.member_state import Profile
from tillstream.schemas.program_file import parse_program
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.offers import MARK, MARK_S, Attempt, First, OfferStore, Seen, event_key, member_keys
from tillstream.sinks.redis import CLUSTER_SCHEME, Redis, connect, load_library

redis_server = redis_server_fixture()

AT = datetime(2026, 3, 7, 17, 0, tzinfo=UTC)


def on(server: RedisServer, work: Callable[[OfferStore], Awaitable[None]]) -> None:
    """Runs `work` with a store on an emptied server that has the library."""

    async def run() -> None:
        server.flush()
        client = await connected(server.url, cluster=server.cluster)
        try:
            await work(OfferStore(client))
        finally:
            await client.aclose()

    asyncio.run(run())


async def connected(url: str, *, cluster: bool = False) -> Redis:
    url = CLUSTER_SCHEME + url.removeprefix("redis://") if cluster else url
    client = connect(url)
    await load_library(client, url)
    return client


async def spent(store: OfferStore) -> dict[str, int]:
    return await OfferView(store.client).spent()


def attempt(text: str, member: str, event: str, at: datetime = AT, made: list[Made] | None = None) -> Attempt:
    """An event that all offers of a program answer to, as the kernel judges it."""
    timetable = Timetable([parse_program(text)])
    person = Person(member, member, "", Profile(), ALL)
    found = verdict(
        offers_in_force(timetable, date(2026, 3, 7)), timetable.zone, Occasioned("shop", event, at, {}), person, {}, made or []
    )
    return Attempt(member, event_key("shop", event), found.fit)


def test_event_judged_again_finds_its_own_decision(redis_server: RedisServer) -> None:
    text = program(offer("budget = 1"))

    async def work(store: OfferStore) -> None:
        (first,) = await store.take([attempt(text, "m1", "e-1")])
        (again,) = await store.take([attempt(text, "m1", "e-1")])
        assert first.made is not None
        assert again == first
        assert await spent(store) == {"cheese": 1}
        (other,) = await store.take([attempt(text, "m2", "e-2")])
        assert other.made is None
        assert other.against == {"cheese": "budget_spent"}
        assert await store.member_of(first.made.decision_id) == "m1"
        looked = await store.look([], [], ["m1", "m2"])
        assert looked.made == {"m1": {event_key("shop", "e-1"): first.made}, "m2": {}}

    on(redis_server, work)


def test_event_whose_budget_is_spent_gets_the_next_offer(redis_server: RedisServer) -> None:
    text = program(offer("budget = 1\npriority = 1"), offer("budget = 2\npriority = 2", "b"), offer("priority = 3", "c"))

    async def work(store: OfferStore) -> None:
        answers = await store.take([attempt(text, f"m{number}", "e") for number in range(5)])
        names = [answer.made.offer_id for answer in answers if answer.made]
        assert names == ["cheese", "b", "b", "c", "c"]
        assert answers[4].against == {"cheese": "budget_spent", "b": "budget_spent"}
        assert await spent(store) == {"cheese": 1, "b": 2}

    on(redis_server, work)


def test_control_group_takes_nothing_from_a_budget_and_ends_with_it(redis_server: RedisServer) -> None:
    text = program(offer("budget = 1\ncontrol = 50"))
    members = [f"m{number}" for number in range(40)]
    controls = [name for name in members if attempt(text, name, "e").candidates[0].made.group == "control"]
    treated = [name for name in members if name not in controls]

    async def work(store: OfferStore) -> None:
        answers = await store.take([attempt(text, name, "e") for name in controls[:5]])
        assert all(answer.made is not None for answer in answers)
        assert (await spent(store)).get("cheese", 0) == 0
        answers = await store.take([attempt(text, name, "e") for name in (treated[0], controls[5])])
        assert [answer.made is not None for answer in answers] == [True, False]

    on(redis_server, work)


LIMITS = """cool_down = { minutes = 50 }
valid_for = { minutes = 20 }
cap = { per_member = { max = 3, days = 2 }, per_channel = { max = 4, days = 1 } }"""


@pytest.mark.parametrize("seed", range(4))
def test_reservation_refuses_for_the_reason_that_the_kernel_gives(redis_server: RedisServer, seed: int) -> None:
    """The kernel looks at what was taken so far, Redis takes: the same reasons, for many events of a few members, in any order."""
    random = Random(seed)
    text = program(offer(LIMITS), offer(LIMITS.replace("50", "90"), "b"), offer('channel = "till"\n' + LIMITS, "c"))

    async def work(store: OfferStore) -> None:
        for number in range(120):
            member, at = random.choice(["m1", "m2"]), AT + timedelta(minutes=random.randrange(4 * 24 * 60))
            blank = attempt(text, member, f"e-{number}", at)
            candidates: list[Candidate] = random.sample(list(blank.candidates), 3)
            made = list((await store.look([], [], [member])).made[member].values())
            reasons = {item.made.offer_id: no_room(item, item.placed.offer, made) for item in candidates}
            (answer,) = await store.take([blank._replace(candidates=candidates)])
            chosen = next((name for name, reason in reasons.items() if reason is None), None)
            assert (answer.made.offer_id if answer.made else None) == chosen
            assert answer.against == {name: reasons[name] for name in list(reasons)[: list(reasons).index(chosen) if chosen else 3]}

    on(redis_server, work)


RACER = """
import asyncio, sys
from tests.test_offer_store import attempt, connected, program, offer
from tillstream.sinks.offers import OfferStore

async def run(url, cluster, first):
    client = await connected(url, cluster=cluster == "True")
    store, text = OfferStore(client), program(offer("budget = 137\\ncap = { per_member = { max = 1, days = 1 } }\\ncontrol = 20"))
    won = 0
    for number in range(0, 120, 8):
        # Every worker tries the same members, by events of its own.
        answers = await store.take([attempt(text, f"m{(number + k + first) % 200}", f"{first}-{number + k}") for k in range(8)])
        won += sum(answer.made is not None and answer.made.group == "treated" for answer in answers)
    print(won)
    await client.aclose()

asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_workers_that_race_spend_a_budget_to_the_last_and_not_one_more(redis_server: RedisServer) -> None:
    async def work(store: OfferStore) -> None:
        commands = [[sys.executable, "-c", RACER, redis_server.url, str(redis_server.cluster), str(first)] for first in (0, 50, 100)]
        racers = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for command in commands]
        won = [int((await racer.communicate())[0]) for racer in racers]
        members = [f"m{number}" for number in range(200)]
        made = (await store.look([], [], members)).made
        assert max(map(len, made.values())) == 1
        assert sum(won) == (await spent(store))["cheese"] == 137
        assert sum(item.group == "treated" for held in made.values() for item in held.values()) == 137

    on(redis_server, work)


def test_crash_between_reservation_and_budget_is_mended_when_judged_again(redis_server: RedisServer) -> None:
    """The worker dies after the first of its two calls; whoever has the batch next goes on from the reservation."""
    text = program(offer("budget = 1"))

    async def work(store: OfferStore) -> None:
        one = attempt(text, "m1", "e-1")
        (reserved,) = await store._reserve([one])
        assert await spent(store) == {}
        (answer,) = await store.take([one])
        assert answer.made == reserved.made
        assert await spent(store) == {"cheese": 1}

    on(redis_server, work)


def test_looks_are_counted_once_each_and_within_their_time(redis_server: RedisServer) -> None:
    async def work(store: OfferStore) -> None:
        def seen(event: str, at_s: int, visitor: str = "v1") -> Seen:
            return Seen(visitor, "cheese", event, at_s * 1_000, 900_000)

        looked = await store.look([seen("a", 0), seen("a", 0), seen("b", 899), seen("c", 900), seen("d", 100), seen("x", 0, "v2")], [], [])
        assert looked.counts == [1, 1, 2, 2, 2, 1]

    on(redis_server, work)


def test_first_purchase_is_told_again_of_the_same_receipt_only(redis_server: RedisServer) -> None:
    async def work(store: OfferStore) -> None:
        firsts = [First("m1", "fish", "r1"), First("m1", "fish", "r2"), First("m1", "fish", "r1"), First("m1", "meat", "r2")]
        assert (await store.look([], firsts, [])).firsts == [True, False, True, True]

    on(redis_server, work)


def test_member_that_is_erased_leaves_nothing(redis_server: RedisServer) -> None:
    async def work(store: OfferStore) -> None:
        await store.look([], [First("m1", "fish", "r1")], [])
        (answer,) = await store.take([attempt(program(offer("budget = 1")), "m1", "e-1")])
        assert answer.made is not None
        await store.redeem("m1", answer.made.decision_id, 5)
        await OfferView(store.client).forget(["m1"])
        assert await store.client.exists(*member_keys("m1")[1:]) == 0
        assert await store.client.hgetall(member_keys("m1")[0]) == {MARK.encode(): b""}
        assert 0 < await store.client.ttl(member_keys("m1")[0]) <= MARK_S
        assert await store.member_of(answer.made.decision_id) is None

    on(redis_server, work)
