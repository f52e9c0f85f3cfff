"""Groups of accounts live: what their members spent does not expire, whatever partition it lies in and whenever the tie becomes known."""

import asyncio
from collections.abc import Iterator
from random import Random

import orjson
import pytest
from confluent_kafka import Producer

from tests.member_events import card, merged, said
from tests.pipeline_harness import PARTITIONS, Event, stage, tick
from tests.test_members import SEAL, on, paid_with, postings, said_sale
from tests.test_pipeline import Till, returned, sale
from tillstream.kernels.lapsing import tick_posting
from tillstream.schemas.events import TickEvent, decode
from tillstream.schemas.ledger import Entries, Posting, decode_record, encode_record
from tillstream.sinks.redis import connect
from tillstream.sinks.state import StateStore
from tillstream.streams.groups import partition_of
from tillstream.streams.rebuild import rebuild
from tillstream.streams.recovery import Recovery
from tillstream.streams.topics import LEDGER
from tillstream.verify import Report, verify
from tillstream.verify_groups import Finding

PAIRS = [("ga", "gb"), ("gc", "gd"), ("ge", "gf"), ("gg", "gh")]
"""Members who will be merged; some lie in one partition, some in two."""


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """A pipeline that runs."""
    with stage(tmp_path_factory.mktemp("groups")) as here, here.worker() as worker:
        yield Till(here, worker)


def expired(till: Till, account_id: str) -> int:
    """What the ledger has expired of an account's points."""
    records = [decode_record(message.value() or b"") for message in till.stage.records(LEDGER)]
    entries = [group for record in records if isinstance(record, Posting) and record.account_id == account_id for group in record.entries]
    return -sum(sum(group.points) for group in entries if group.kind == "expiry" and group.unit == "points")


def spent(name: str, member: str, day: int, points: int) -> Event:
    event = paid_with(on(day, said_sale(name, member)), points)
    event["data"]["lines"][0]["category"] = "bakery/rolls"
    event["data"]["lines"] = [{**event["data"]["lines"][0], "amount": 100, "kind": "fee"}]
    return event


def test_pairs_lie_in_one_partition_and_in_two() -> None:
    assert {partition_of(one, PARTITIONS) == partition_of(other, PARTITIONS) for one, other in PAIRS} == {True, False}


def test_points_that_were_spent_do_not_expire_again(till: Till) -> None:
    till.send(*(on(2, said_sale(f"{alias}-1", alias)) for _, alias in PAIRS))
    till.send(on(2, sale("tk-1", "card-tk")))
    till.send(said("en-tk", "enrolled", 3, member_id="tk", identities=[card("card-tk")]))
    till.send(*(merged(3, alias, root) for root, alias in PAIRS))
    till.send(*(spent(f"{root}-1", root, 4, 300) for root, _ in PAIRS), spent("tk-2", "tk", 4, 300))
    till.send(tick("2026-03-23"))
    accounts = till.assert_as_simulated()["accounts"]
    assert [expired(till, account) for _, account in PAIRS] == [100] * len(PAIRS)
    assert expired(till, postings(till, "tk-1")[0].account_id or "") == 100
    assert not [name for name in (*dict(PAIRS), "tk") if "points" in accounts.get(name, {})]


def test_late_spending_is_made_up_for_by_the_next_tick(till: Till) -> None:
    till.send(*(spent(f"{root}-2", root, 5, 60) for root, _ in PAIRS), spent("tk-3", "tk", 5, 60))
    till.send(tick("2026-03-24"))
    till.assert_as_simulated()
    assert [expired(till, account) for _, account in PAIRS] == [40] * len(PAIRS)
    till.send(*(returned(spent(f"{root}-2", root, 5, 60), 1, None, 100) for root, _ in PAIRS))
    till.send(tick("2026-03-25"))
    till.assert_as_simulated()
    assert [expired(till, account) for _, account in PAIRS] == [100] * len(PAIRS)


def test_merge_that_becomes_known_after_the_expiry_counts_and_an_unmerge_takes_it_back(till: Till) -> None:
    till.send(on(2, said_sale("gn-1", "gn")), on(2, said_sale("gm-1", "gm")))
    till.send(spent("gm-2", "gm", 4, 700), tick("2026-03-26"))
    till.assert_as_simulated()
    assert (expired(till, "gn"), expired(till, "gm")) == (400, 0)
    till.send(merged(5, "gn", "gm"))
    till.send(tick("2026-03-27"))
    till.assert_as_simulated()
    assert (expired(till, "gn"), expired(till, "gm")) == (100, 0)
    till.send(merged(6, "gn", "gm", "unmerged"))
    till.send(tick("2026-03-28"))
    accounts = till.assert_as_simulated()["accounts"]
    assert (expired(till, "gn"), expired(till, "gm")) == (400, 0)
    assert accounts["gm"]["points"]["balance"] == -300


def test_hold_of_an_alias_in_another_partition_is_captured_once(till: Till) -> None:
    made = {"hold_id": "h-gh", "member": {"scheme": "member", "value": "gh"}, "points": 50, "expires_at": "2026-03-30T20:00:00Z"}
    envelope = {"specversion": "1.0", "id": "h", "source": "app", "type": "points.hold", "time": "2026-03-02T18:00:00Z"}
    till.send(on(2, said_sale("gh-2", "gh")), {**envelope, "data": made})
    for name in ("gg-3", "gg-4"):
        event = on(4, said_sale(name, "gg"))
        event["data"]["tenders"] = [{"type": "points", "amount": 40, "points": 40, "hold_id": "h-gh"}]
        till.send(event)
    till.send(tick("2026-04-01"))
    till.assert_as_simulated()
    captured = [group.kind for name in ("gg-3", "gg-4") for posting in postings(till, name) for group in posting.entries if group.spent_on]
    assert captured == ["capture", "redemption"]


@pytest.mark.slow
def test_random_lives_in_any_order_of_arrival_end_as_simulated(till: Till) -> None:
    """Sales, tenders and returns of members who become one at some time, sent in lots that partitions work off at their own pace."""
    random = Random(15)
    roots, aliases = [f"r{n}" for n in range(8)], [f"a{n}" for n in range(8)]
    events: list[Event] = [merged(random.randint(1, 9), alias, root) for alias, root in zip(aliases, roots, strict=True)]
    events += [said(f"en-{root}", "enrolled", random.randint(1, 9), member_id=root, identities=[card(f"card-{root}")]) for root in roots]
    for number in range(160):
        who = random.choice([*roots, *aliases])
        event = said_sale(f"x-{number}", who) if random.random() < 0.7 else sale(f"x-{number}", f"card-{random.choice(roots)}")
        event = on(random.randint(1, 28), event)
        if random.random() < 0.4:
            paid_with(event, random.randint(1, 600))
        events.append(event)
        if random.random() < 0.2:
            events.append(returned(event, 1, None, random.randint(1, 100) * 100))
    random.shuffle(events)
    for first in range(0, len(events), 20):
        till.sent += events[first : first + 20]
        till.stage.send(events[first : first + 20])
        till.sent.append(tick(f"2026-04-{first // 20 + 2:02}"))
        till.stage.send(till.sent[-1:])
    till.stage.settle(till.worker)
    till.send(tick("2026-04-20"))
    till.send(tick("2026-04-21"))
    till.assert_as_simulated()
    assert proof(till).findings == []


def test_rebuilt_groups_are_what_they_were(till: Till) -> None:
    before, accounts = till.stage.state(), till.stage.balances()

    async def again() -> None:
        client = connect(till.stage.config.redis)
        await rebuild(client, till.stage.kafka, PARTITIONS, SEAL)
        await client.aclose()

    asyncio.run(again())
    assert till.stage.state() == before
    till.send(tick("2026-04-22"))
    assert till.stage.balances() == accounts
    till.assert_as_simulated()


def proof(till: Till, *planted: bytes, account_id: str = "") -> Report:
    """What `verify` says, once records were smuggled into an account's ledger, and from there into Redis."""

    async def asked() -> Report:
        async with connect(till.stage.config.redis) as client:
            if planted:
                await Recovery(StateStore(client), till.stage.kafka).recover(partition_of(account_id, PARTITIONS))
            return await verify(till.stage.config, client, None)

    producer = Producer(till.stage.kafka)
    for record in planted:
        producer.produce(LEDGER, record, account_id.encode(), partition_of(account_id, PARTITIONS))
    producer.flush()
    return asyncio.run(asked())


def test_verify_counts_groups_and_leaves_out_those_that_await_a_tick(till: Till) -> None:
    report = proof(till)
    known = report.groups
    assert (known >= 5, report.groups_awaiting_tick, report.findings) == (True, 0, [])
    till.send(spent("ga-5", "ga", 5, 30))
    report = proof(till)
    assert (report.groups, report.groups_awaiting_tick, report.findings) == (known, 1, [])
    till.send(tick("2026-04-23"))
    report = proof(till)
    assert (report.groups, report.groups_awaiting_tick, report.findings) == (known, 0, [])


def test_verify_sees_points_expired_that_were_spent(till: Till) -> None:
    event = decode(orjson.dumps(tick("2026-04-23")))
    assert isinstance(event, TickEvent)
    planted = tick_posting(event, 0, "gd", [Entries(kind="expiry", unit="points", points=[-80], expires_on="2026-03-22")])
    report = proof(till, encode_record(planted), account_id="gd")
    expected = Finding("a group's expiry, points expired that were spent", "gc + gd points of 2026-03-22", 100, 180)
    assert report.findings[0] == expected
    assert [finding.check for finding in report.findings] == [expected.check, "lots - debt"]
    till.send(tick("2026-04-24"))
    assert proof(till).findings == report.findings, "nothing is due by what the clock looks at"
