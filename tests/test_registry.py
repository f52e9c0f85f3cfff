"""Who is who: a function of the set of member events, whatever order they came in and however often."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.member_events import CARDS, MEMBERS, SEAL, Event, card, histories, merged, said, sealed
from tillstream.kernels.facts import erasable, fact_in, fact_of, subject_of
from tillstream.kernels.holdings import NEVER, Holding, settle, sum_of
from tillstream.kernels.identities import Seal
from tillstream.kernels.occasions import impersonal
from tillstream.kernels.registry import Registry
from tillstream.schemas.events import SegmentsEvent
from tillstream.schemas.receipts import Identity

DAYS = range(11)


def at(day: int) -> datetime:
    """Noon of a day of March; the events are of ten in the morning."""
    return datetime(2026, 3, day + 1, 0, tzinfo=UTC)


def registry_of(events: list[Event]) -> Registry:
    registry = Registry()
    for event in events:
        registry.take(sealed(event))
    return registry


def identity(number: str) -> Identity:
    return SEAL.sealed(Identity("card", number))


def shown(registry: Registry) -> dict[str, Any]:
    """Everything that can be asked of a registry."""
    identities = [*map(identity, CARDS), *(Identity("member", name) for name in MEMBERS)]
    return {
        "accounts": [registry.account_at(item, at(day)) for item in identities for day in DAYS],
        "groups": registry.groups(),
        "segments": [registry.segments_of(name) for name in MEMBERS],
        "refused": registry.merges().refused,
        "consents": [registry.consents_of(name) for name in MEMBERS],
        "profiles": [registry.profile_at(name, at(day)) for name in MEMBERS for day in DAYS],
    }


@given(histories(), st.data())
def test_member_events_in_any_order_and_repeated_lead_to_the_same_accounts(events: list[Event], data: st.DataObject) -> None:
    wanted = shown(registry_of(events))
    other = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=5))]))
    assert shown(registry_of(other)) == wanted


@given(histories())
def test_registry_from_its_stored_facts_is_the_same(events: list[Event]) -> None:
    registry = registry_of(events)
    again = Registry()
    for member, facts in registry.members.items():
        for fact in facts:
            assert fact_in(fact.line) == fact
            again.add(member, fact_in(fact.line))
    assert shown(again) == shown(registry)


@given(histories(), st.sampled_from(MEMBERS), st.sampled_from(MEMBERS))
def test_merge_taken_back_is_where_it_began(events: list[Event], from_: str, into: str) -> None:
    before = registry_of(events)
    if from_ in before.merges().into:
        return  # Merging a member anew takes the place of its earlier merge, which unmerging does not bring back.
    groups = before.groups()
    after = registry_of([*events, merged(20, from_, into), merged(21, from_, into, "unmerged")])
    assert after.groups() == groups
    assert [after.account_at(identity(number), at(25)) for number in CARDS] == [
        before.account_at(identity(number), at(25)) for number in CARDS
    ]


@given(histories())
def test_every_account_is_in_one_group_and_its_root_is_in_front(events: list[Event]) -> None:
    registry = registry_of(events)
    for account, group in registry.groups().items():
        assert account in group
        assert len(set(group)) == len(group)
        assert all(registry.group_of(other) == group for other in group)
        assert group[0] not in registry.merges().into


def test_identity_belongs_to_its_latest_enrolment_at_the_time_and_before_the_first_to_that() -> None:
    registry = registry_of([said("2", "identity_added", 5, member_id="b", identity=card("1")), enrolled("1", 3, "a", "1")])
    assert [registry.account_at(identity("1"), at(day)) for day in (1, 2, 3, 4, 5, 9)] == ["a", "a", "a", "a", "b", "b"]
    nobody = identity("2")
    assert registry.account_at(nobody, at(3)) == SEAL.account_of(nobody)


def test_provisional_account_goes_to_whoever_enrolled_the_identity_first() -> None:
    provisional = SEAL.account_of(identity("1"))
    registry = registry_of([enrolled("2", 5, "b", "1"), enrolled("1", 3, "a", "1")])
    assert registry.group_of(provisional) == ["a", provisional]
    assert registry.group_of("b") == ["b"]


def test_merges_lead_on_and_count_from_their_time() -> None:
    registry = registry_of([enrolled("1", 1, "a", "1"), merged(3, "a", "b"), merged(5, "b", "c")])
    assert [registry.account_at(identity("1"), at(day)) for day in (2, 3, 5)] == ["a", "b", "c"]
    assert registry.group_of("a") == ["c", "a", "b", SEAL.account_of(identity("1"))]


def test_merge_that_closes_a_cycle_is_refused_whichever_came_first() -> None:
    first, second = merged(3, "a", "b"), merged(4, "b", "a")
    for events in ([first, second], [second, first]):
        registry = registry_of(events)
        assert registry.merges().refused == {fact_of(sealed(second)).order}
        assert registry.group_of("b") == ["b", "a"]
    assert registry_of([merged(3, "a", "a")]).merges().into == {}


def test_household_takes_what_occurs_from_its_time_on_until_it_is_left() -> None:
    events = [
        said("1", "enrolled", 2, member_id="a", identities=[card("1")], household_id="h"),
        said("2", "household_changed", 5, member_id="a", household_id=None),
        said("3", "household_changed", 7, member_id="a", household_id="k"),
    ]
    registry = registry_of(events)
    assert [registry.account_at(identity("1"), at(day)) for day in (1, 2, 4, 5, 7)] == ["a", "h", "h", "a", "k"]
    assert "h" not in registry.group_of("a")


def test_erased_member_is_nobody_and_its_card_enrols_anew() -> None:
    events = [
        said("1", "enrolled", 2, member_id="a", identities=[card("1")], household_id="h", birth_date="1980-02-29",
             attributes={"name": "Jan"}, consents={"marketing": True}),
        merged(3, "b", "a"),
        said("2", "erased", 5, member_id="a"),
    ]  # fmt: skip
    registry = registry_of(events)
    assert [fact.kind for fact in registry.members["a"]] == ["erased"]
    assert not any(registry.identities.values())
    assert registry.profile_at("a", at(9)) is None
    assert registry.consents_of("a") == {}
    assert registry.account_at(identity("1"), at(3)) == SEAL.account_of(identity("1"))
    assert registry.account_at(Identity("member", "a"), at(3)) == "a"
    assert registry.group_of("b") == ["a", "b"], "which accounts are whose is known still"
    assert registry.take(sealed(said("0", "identity_added", 4, member_id="a", identity=card("2")))) == "forgotten"
    registry.take(sealed(enrolled("3", 8, "c", "1")))
    assert registry.account_at(identity("1"), at(9)) == "c"
    assert registry.group_of("c") == ["c", SEAL.account_of(identity("1"))]


def test_same_event_with_other_data_changes_nothing() -> None:
    registry = registry_of([enrolled("1", 2, "a", "1")])
    before = shown(registry)
    assert registry.take(sealed(enrolled("1", 2, "a", "2"))) == "other"
    assert registry.take(sealed(enrolled("1", 3, "a", "1"))) == "other"
    assert registry.take(sealed(enrolled("1", 2, "a", "1"))) == "same"
    assert shown(registry) == before


def test_consents_are_those_of_the_latest_enrolment_and_what_changed_since() -> None:
    events = [
        said("1", "enrolled", 2, member_id="a", consents={"marketing": True, "profiling": True}),
        said("2", "consent_changed", 3, member_id="a", consents={"marketing": False}),
    ]
    assert registry_of(events).consents_of("a") == {"marketing": False, "profiling": True}
    again = said("3", "enrolled", 4, member_id="a", consents={"personalised": True})
    assert registry_of([again, *events]).consents_of("a") == {"personalised": True}


def segments_said(name: str, day: int, *segments: str, segmentation: str = "rfm") -> Event:
    more = {"segmentation": segmentation, "segments": list(segments), "version": "v1", "as_of": "2026-03-01"}
    return said(name, "segments_changed", day, member_id="a", **more)


def test_segments_change_neither_consents_nor_the_profile() -> None:
    events = [
        said("1", "enrolled", 2, member_id="a", attributes={"city": "Oslo"}, consents={"profiling": True}),
        said("2", "consent_changed", 3, member_id="a", consents={"profiling": False}),
    ]
    before = registry_of(events)
    after = registry_of([segments_said("3", 4, "new"), segments_said("4", 5), segments_said("5", 4, "fish", segmentation="taste"), *events])
    assert after.consents_of("a") == before.consents_of("a") == {"profiling": False}
    assert after.profile_at("a", at(9)) == before.profile_at("a", at(9))
    assert {name: value["segments"] for name, value in after.segments_of("a").items()} == {"rfm": [], "taste": ["fish"]}


def test_segments_are_told_again_until_the_member_is_erased() -> None:
    event = sealed(segments_said("1", 4, "new"))
    assert isinstance(event, SegmentsEvent)
    announced = structs.replace(event, data=impersonal(event))
    registry = registry_of([said("0", "enrolled", 2, member_id="a"), segments_said("1", 4, "new"), merged(3, "a", "b")])
    assert registry.told(announced) == structs.replace(event, personid="b")
    registry.take(sealed(said("2", "erased", 5, member_id="a")))
    assert registry.told(announced) == structs.replace(announced, personid="b")
    assert registry.segments_of("a") == {}


SUMS = st.dictionaries(st.sampled_from(["2026-03-05", "2026-03-09", NEVER]), st.integers(0, 50), max_size=3)


@given(st.lists(st.builds(lambda c, d: Holding(c, d, {}, sum(c.values()) - sum(d.values())), SUMS, SUMS), max_size=4))
def test_sum_of_a_group_settles_over_the_union_and_loses_nothing(holdings: list[Holding]) -> None:
    total = sum_of({"points": holding} for holding in holdings).get("points", Holding())
    settled = settle(total, None)
    assert total.balance == sum(holding.balance for holding in holdings) == sum(settled.lots.values()) - settled.debt
    assert settled.debt <= sum(settle(holding, None).debt for holding in holdings), "one account's lots pay another's debt"


def test_one_person_has_one_hash_however_it_is_written() -> None:
    written = {"phone": ["601 234 567", "+48601234567", "0048 601-234-567"], "email": ["Jan@Example.org", " jan@example.org "]}
    for scheme, values in written.items():
        assert len({SEAL.hash_of(Identity(scheme, value)) for value in values}) == 1  # type: ignore[arg-type]
    assert Seal(SEAL.key, "DE").hash_of(Identity("phone", "601 234 567")) != SEAL.hash_of(Identity("phone", "601 234 567"))
    assert SEAL.hash_of(Identity("phone", "not a number")) == SEAL.hash_of(Identity("phone", "notanumber"))
    assert SEAL.hash_of(Identity("card", "AB")) != SEAL.hash_of(Identity("card", "ab"))


@given(histories())
def test_sealed_events_hold_no_value_and_sealing_again_changes_nothing(events: list[Event]) -> None:
    for event in events:
        once = sealed(event)
        assert fact_of(once) == fact_of(sealed(event))
        for line in [fact_of(once).line]:
            assert not any(f'"{number}"' in line for number in CARDS)
        assert subject_of(once) in MEMBERS


def test_nothing_is_erasable_without_an_erasure() -> None:
    facts = registry_of([enrolled("1", 2, "a", "1")]).members["a"]
    assert erasable(facts) == []


def enrolled(name: str, day: int, member: str, *cards: str) -> Event:
    return said(name, "enrolled", day, member_id=member, identities=[card(number) for number in cards])
