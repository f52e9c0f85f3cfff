"""Members live: merges, households, takeover and erasure end where `simulate` ends, and no personal value stays where it should not."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka import Message

from tests.member_events import card, merged, said
from tests.pipeline_harness import PARTITIONS, Event, as_stored, expected, stage
from tests.test_pipeline import Till, returned, sale
from tillstream.kernels.identities import Seal
from tillstream.kernels.registry import Registry
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.receipts import Identity
from tillstream.simulate import IDENTITY_KEY
from tillstream.streams.enrol import said_in
from tillstream.streams.topics import LEDGER, MEMBERS, PARKED, RECALL, TRANSACTIONS

SEAL = Seal(IDENTITY_KEY)


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """A pipeline that runs."""
    with stage(tmp_path_factory.mktemp("members")) as here, here.worker() as worker:
        yield Till(here, worker)


def on(day: int, event: Event) -> Event:
    """A sale of another day of March."""
    event["data"]["issued_at"] = event["time"] = f"2026-03-{day:02}T17:00:00Z"
    return event


def said_sale(name: str, member: str) -> Event:
    """A sale of somebody who says the member id."""
    event = sale(name, None)
    event["data"]["member"] = {"scheme": "member", "value": member}
    return event


def paid_with(event: Event, points: int) -> Event:
    event["data"]["tenders"] = [{"type": "points", "amount": 100, "points": points}]
    return event


def postings(till: Till, receipt_id: str) -> list[Posting]:
    records = [decode_record(message.value() or b"") for message in till.stage.records(LEDGER)]
    return [record for record in records if isinstance(record, Posting) and record.receipt_id == receipt_id]


def compacted(messages: list[Message]) -> list[bytes]:
    """What a broker leaves of a compacted topic."""
    left = {message.key(): message.value() for message in messages}
    return [value for value in left.values() if value]


def test_merge_adds_up_routes_to_the_root_and_is_taken_back(till: Till) -> None:
    members = [said(f"en-{name}", "enrolled", 1, member_id=name, identities=[card(f"card-{name}")]) for name in ("ma", "mb")]
    till.send(*members)
    till.send(on(2, sale("ma-1", "card-ma")), on(2, sale("mb-1", "card-mb")))
    till.send(merged(3, "ma", "mb"))
    till.send(on(4, sale("ma-2", "card-ma")), on(2, sale("ma-late", "card-ma")))
    accounts = till.assert_as_simulated()["accounts"]
    assert "ma" not in accounts
    assert accounts["mb"]["points"]["balance"] == 4 * 400
    assert [posting.account_id for posting in (*postings(till, "ma-2"), *postings(till, "ma-late"))] == ["mb", "ma"]
    till.send(merged(5, "ma", "mb", "unmerged"))
    till.send(on(6, sale("ma-3", "card-ma")))
    accounts = till.assert_as_simulated()["accounts"]
    assert {name: accounts[name]["points"]["balance"] for name in ("ma", "mb")} == {"ma": 3 * 400, "mb": 2 * 400}


def test_household_takes_the_members_receipts_from_its_time_on(till: Till) -> None:
    members = [said(f"en-{name}", "enrolled", 1, member_id=name, identities=[card(f"card-{name}")]) for name in ("ha", "hb")]
    till.send(*members, *(said(f"hh-{name}", "household_changed", 3, member_id=name, household_id="home") for name in ("ha", "hb")))
    till.send(on(2, sale("ha-1", "card-ha")), on(4, sale("ha-2", "card-ha")), on(4, sale("hb-1", "card-hb")))
    till.send(said("hh-left", "household_changed", 5, member_id="hb", household_id=None))
    till.send(on(6, sale("hb-2", "card-hb")))
    accounts = till.assert_as_simulated()["accounts"]
    assert {name: accounts[name]["points"]["balance"] for name in ("ha", "hb", "home")} == {"ha": 400, "hb": 400, "home": 800}


def test_points_of_a_card_earned_before_it_was_enrolled_cover_what_its_member_spends(till: Till) -> None:
    till.send(on(2, sale("tk-1", "card-tk")))
    till.send(said("en-tk", "enrolled", 3, member_id="tk", identities=[card("card-tk")]))
    till.send(paid_with(on(4, sale("tk-2", "card-tk", amount=100)), 350), paid_with(on(4, sale("tk-3", "card-tk", amount=100)), 350))
    covered, beyond = ([group.uncovered for group in posting.entries if group.kind == "redemption"] for name in ("tk-2", "tk-3")
                       for posting in postings(till, name))  # fmt: skip
    assert (covered, beyond) == ([False], [True])
    assert till.assert_as_simulated()["accounts"]["tk"]["points"]["balance"] < 0


def test_enrolments_and_activities_reach_their_account(till: Till) -> None:
    review = {**said("review", "enrolled", 4), "type": "activity.review", "data": {"member": card("card-ac"), "stars": 5}}
    enrolment = said("en-ac", "enrolled", 2, member_id="ac", identities=[card("card-ac")], attributes={"name": "Jan Kowalski"})
    till.send(enrolment)
    till.send(review)
    found = {}
    for message in till.stage.records(TRANSACTIONS):
        event = orjson.loads(message.value() or b"")
        if event["accountid"] == "ac":
            found[event["type"]] = event["data"]
    assert found["activity.review"] == as_stored(review)["data"]
    assert found["member.enrolled"]["member_id"] == "ac"
    assert not found["member.enrolled"]["attributes"], "what it says of a person stays on `members`, which forgets"


def test_cycles_and_contradictions_are_dead_letters_and_change_nothing(till: Till) -> None:
    before = len(till.stage.dead_letters())
    till.send(merged(3, "ca", "cb"), on(4, said_sale("ca-1", "ca")))
    till.send(merged(4, "cb", "ca"), {**merged(3, "ca", "cc"), "id": merged(3, "ca", "cb")["id"]})
    letters = till.stage.dead_letters()[before:]
    assert sorted((letter.code, letter.topic) for letter in letters) == [("conflict", MEMBERS), ("cycle", MEMBERS)]
    wanted = till.assert_as_simulated()
    assert till.stage.groups()["ca"] == ["cb", "ca"]
    assert [rejection["code"] for rejection in wanted["rejected"]][-2:] == ["cycle", "conflict"]


def test_sealed_event_sent_again_is_a_duplicate(till: Till) -> None:
    first = on(2, sale("again-1", "card-again"))
    till.send(first)
    accepted = till.assert_as_simulated()["accounts"]
    till.send(as_stored(first), first)
    assert till.assert_as_simulated()["accounts"] == accepted
    assert len(postings(till, "again-1")) == 1


def test_erased_member_leaves_its_points_and_no_personal_value(till: Till) -> None:
    secret = {"birth_date": "1980-02-29", "attributes": {"name": "Wisniewska"}}
    till.send(said("en-er", "enrolled", 1, member_id="er", identities=[card("card-er")], **secret))
    sold = on(2, sale("er-1", "card-er"))
    till.send(sold, returned(sale("er-nothing", None), 1, "card-er"))
    till.send(said("gone", "erased", 3, member_id="er"))
    after = on(4, sale("er-2", "card-er"))
    till.send(after, sold)
    nobody = SEAL.account_of(Identity("card", "card-er"))
    assert [posting.account_id for posting in (*postings(till, "er-1"), *postings(till, "er-2"))] == ["er", nobody]
    stored = [message.value() or b"" for topic in (TRANSACTIONS, LEDGER) for message in till.stage.records(topic, PARTITIONS)]
    stored += [message.value() or b"" for topic in (PARKED, RECALL) for message in till.stage.records(topic, 1)]
    stored += compacted(till.stage.records(MEMBERS, 1))
    everything = b"\n".join(stored) + repr(redis_of(till)).encode()
    assert b"er-1" in everything
    assert not [word for word in (b"card-er", b"Wisniewska", b"1980-02-29") if word in everything]
    till.send(said("en-new", "enrolled", 5, member_id="new", identities=[card("card-er")]))
    assert till.stage.groups()[nobody] == ["new", nobody]
    # A simulation of everything knows no more that the card was once another's; the ledger does, by its accounts.
    balances = till.stage.balances()
    assert {name: balances[name]["points"]["balance"] for name in ("er", "new")} == {"er": 400, "new": 400}


def test_what_compaction_leaves_of_the_topic_is_the_whole_registry(till: Till) -> None:
    registries = []
    records = till.stage.records(MEMBERS, 1)
    for values in ([message.value() or b"" for message in records], compacted(records)):
        registry = Registry()
        for value in values:
            known = said_in(value, SEAL)
            for fact in known.facts:
                registry.add(known.member, fact)
        registries.append(registry)
    assert len(compacted(records)) < len(records)
    assert registries[0].groups() == registries[1].groups() != {}
    assert {k: v for k, v in registries[0].members.items() if v} == {k: v for k, v in registries[1].members.items() if v}
    assert till.stage.groups().items() <= registries[1].groups().items()


def redis_of(till: Till) -> dict[str, Any]:
    """Every key of the stage's Redis."""
    readers = {b"hash": "hgetall", b"set": "smembers", b"string": "get"}
    with till.stage.client() as client:
        kinds = {key: client.type(key) for key in client.scan_iter()}
        return {key.decode(): getattr(client, readers[kind])(key) for key, kind in kinds.items() if kind in readers}


def test_simulate_takes_phones_in_the_settings_region() -> None:
    events = [
        said("en-ph", "enrolled", 1, member_id="ph", identities=[{"scheme": "phone", "value": "+48601234567"}]),
        on(2, sale("ph-1", None)),
    ]
    events[1]["data"]["member"] = {"scheme": "phone", "value": "601 234 567"}
    assert "ph" not in expected(events)["accounts"]
    assert "ph" in expected(events, phone_region="PL")["accounts"]
