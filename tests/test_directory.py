"""The directory in Redis, on every kind of server: who is who, the first claim stands, what waits for a sale is brought along."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.member_events import CARDS, MEMBERS, SEAL, Event, card, histories, merged, said, sealed
from tests.redis_servers import RedisServer, redis_server  # noqa: F401
from tests.test_state import ODD_IDS, client_of, dumped
from tillstream.kernels.facts import Noted, fact_of, subject_of
from tillstream.kernels.registry import Registry
from tillstream.schemas.receipts import Identity
from tillstream.sinks.directory import Claim, Claiming, Directory, Found, Parking

DAY = date(2026, 3, 7)
PARKED = Found("parked")


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:  # noqa: F811
    """A server without a key or a function."""
    redis_server.flush()
    return redis_server


def with_directories(server: RedisServer, scenario: Callable[..., Awaitable[None]], clients: int = 1) -> None:
    """Runs a scenario with some directories, each with a client of its own."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await scenario(*[Directory(await stack.enter_async_context(client_of(server))) for _ in range(clients)])

    asyncio.run(run())


def digest(name: object) -> str:
    return blake2b(str(name).encode(), digest_size=16).hexdigest()


def claimings(*accounts: str, first: int = 0) -> dict[str, Claiming]:
    return {digest(number): Claiming(account, DAY) for number, account in enumerate(accounts, first)}


async def note(directory: Directory, events: list[Event]) -> list[Noted]:
    return await directory.registry.note([(subject_of(event), fact_of(event)) for event in map(sealed, events)])


@given(events=histories(), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_registry_in_redis_tells_what_the_one_in_memory_tells(server: RedisServer, events: list[Event], data: st.DataObject) -> None:
    arriving = data.draw(st.permutations([*events, *events[:3]]))

    async def scenario(directory: Directory) -> None:
        wanted = Registry()
        taken = [wanted.take(sealed(event)) for event in arriving]
        assert await note(directory, arriving) == taken
        identities = [SEAL.sealed(Identity("card", number)) for number in CARDS] + [Identity("member", name) for name in MEMBERS]
        there = await directory.registry.of_identities(identities)
        for identity in identities:
            for day in range(1, 11):
                moment = datetime(2026, 3, day, 12, tzinfo=UTC)
                assert there.account_at(identity, moment) == wanted.account_at(identity, moment)
        about = await directory.registry.of_accounts(MEMBERS)
        for name in MEMBERS:
            assert await directory.group_of(name) == wanted.group_of(name)
            assert about.consents_of(name) == wanted.consents_of(name)
            assert about.profile_at(name, moment) == wanted.profile_at(name, moment)
        before = dumped(server)
        assert set(await note(directory, arriving)) <= {"same", "other", "forgotten"}
        assert dumped(server) == before

    server.flush()
    with_directories(server, scenario)


def test_provisional_account_shares_the_group_of_its_member(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        nobody = SEAL.account_of(Identity("card", "1"))
        assert await directory.group_of(nobody) == [nobody]
        await note(directory, [said("1", "enrolled", 1, member_id="a", identities=[card("1")]), merged(2, "a", "b")])
        assert await directory.group_of(nobody) == ["b", "a", nobody] == await directory.group_of("b")

    with_directories(server, scenario)


def test_erased_member_leaves_no_value_in_redis(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        personal = {"birth_date": "1980-02-29", "attributes": {"name": "Jan Kowalski"}, "consents": {"marketing": True}}
        enrolment = said("1", "enrolled", 1, member_id="a", identities=[card("1"), card("2")], household_id="h", **personal)
        await note(directory, [enrolment, said("2", "erased", 3, member_id="a")])
        left = "\n".join(line for facts in (await directory.registry.facts("members", ["a"])).values() for line in map(str, facts))
        assert "erased" in left
        assert not any(word in left for word in ("1980", "Jan", "marketing", "household"))
        assert {key for key in dumped(server) if "identities" in key or "ties" in key} == set()
        assert await note(directory, [enrolment]) == ["forgotten"]

    with_directories(server, scenario)


def test_first_claim_stands_for_ever_whatever_is_claimed_later(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        first = await directory.claim(claimings(*ODD_IDS))
        assert first == {digest(n): Claim(name, False) for n, name in enumerate(ODD_IDS)}
        before = dumped(server)
        assert await directory.claim(claimings(*["thief"] * len(ODD_IDS))) == first
        assert await directory.claim({}) == {}
        assert dumped(server) == before

    with_directories(server, scenario)


def test_thousands_of_claims_of_one_batch_all_come_back(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        wanted = claimings(*(f"m{n}" for n in range(5_000)))
        # One slot takes more than one call's worth.
        wanted |= {f"0007{n:028x}": Claiming(f"s{n}", DAY) for n in range(4_500)}
        found = await directory.claim(wanted)
        assert found == {key: Claim(claiming.account, False) for key, claiming in wanted.items()}

    with_directories(server, scenario)


def test_two_who_claim_at_once_agree(server: RedisServer) -> None:
    async def scenario(*directories: Directory) -> None:
        for first in range(0, 2_000, 200):
            asked = [claimings(*[name] * 200, first=first) for name in ("a", "b")]
            one, other = await asyncio.gather(*(d.claim(accounts) for d, accounts in zip(directories, asked, strict=True)))
            assert one == other
            assert {claim.account for claim in one.values()} <= {"a", "b"}

    with_directories(server, scenario, clients=2)


def test_return_is_parked_until_its_sale_is_claimed_and_gone_after_unparking(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        sale, other = digest("sale"), digest("other")
        returns = [Parking(sale, digest(n), b"{%d} \xc5\xbc\x00" % n) for n in range(3)]
        empty = dumped(server)
        assert await directory.find_or_park(returns) == [PARKED] * 3
        before = dumped(server)
        assert await directory.find_or_park(reversed(returns)) == [PARKED] * 3
        assert await directory.find_or_park([Parking(sale, digest(0), b"other bytes")]) == [PARKED]
        assert dumped(server) == before
        claims = await directory.claim({sale: Claiming("", DAY), other: Claiming("m2", DAY)})
        assert claims == {sale: Claim("", True), other: Claim("m2", False)}
        parked = await directory.parked([sale])
        assert parked == {sale: {parking.key: parking.event for parking in returns}}
        assert await directory.find_or_park(returns) == [Found("account", "")] * 3
        for _ in range(2):
            await directory.unpark(parked)
            assert await directory.parked([sale]) == {sale: {}}
            assert (await directory.claim({sale: Claiming("x", DAY)}))[sale] == Claim("", False)
        await directory.unpark({other: []})
        assert {key for key in dumped(server) if "parked" in key} == set(empty)

    with_directories(server, scenario)


def test_parked_events_come_back_in_the_order_they_came_in(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        sale = digest("sale")
        returns = [Parking(sale, digest(n), b"%d" % n + b"x" * 300) for n in range(40)]
        for parking in returns:
            await directory.find_or_park([parking])
        assert list((await directory.parked([sale]))[sale].items()) == [(parking.key, parking.event) for parking in returns]

    with_directories(server, scenario)


def test_unparking_some_leaves_the_others_and_their_mark(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        sale = digest("sale")
        await directory.find_or_park([Parking(sale, "r1", b"1"), Parking(sale, "r2", b"2")])
        await directory.unpark({sale: ["r1"]})
        assert (await directory.claim({sale: Claiming("m1", DAY)}))[sale] == Claim("m1", True)
        assert await directory.parked([sale]) == {sale: {"r2": b"2"}}

    with_directories(server, scenario)


def test_return_and_sale_at_once_never_miss_each_other(server: RedisServer) -> None:
    async def scenario(returning: Directory, selling: Directory) -> None:
        for first in range(0, 600, 30):
            sales = claimings(*["m1"] * 30, first=first)
            answers = await asyncio.gather(
                returning.find_or_park([Parking(sale, digest(f"r{sale}"), b"{}") for sale in sales]), selling.claim(sales)
            )
            found, claims = answers
            # Either the return sees the account, or the sale sees that somebody waits for it.
            assert [where == Found("account", "m1") for where in found] == [not claim.parked for claim in claims.values()]

    with_directories(server, scenario, clients=2)


def test_forgotten_claim_sends_to_history_and_is_claimed_anew_once_history_was_asked(server: RedisServer) -> None:
    async def scenario(directory: Directory) -> None:
        old, new = digest("old"), digest("new")
        same_slot = [f"{old[:4]}{n:028x}" for n in range(2)]
        await directory.claim({old: Claiming("m1", DAY), same_slot[0]: Claiming("m1", DAY.replace(day=9))})
        await directory.forget_claims(DAY, [old])
        claims = await directory.claim({key: Claiming("m2", DAY) for key in (old, same_slot[0])})
        assert claims == {old: Claim(None, False), same_slot[0]: Claim("m1", False)}
        later = {same_slot[1]: Claiming("m2", DAY.replace(day=8)), new: Claiming("m2", DAY.replace(day=8))}
        assert {claim.account for claim in (await directory.claim(later)).values()} == {"m2"}
        parking: Any = Parking(old, "r", b"{}")
        assert await directory.find_or_park([parking]) == [Found("history")]
        assert await directory.find_or_park([parking], history_asked=True) == [PARKED]
        assert await directory.claim({old: Claiming("m2", date.max)}) == {old: Claim("m2", True)}

    with_directories(server, scenario)
