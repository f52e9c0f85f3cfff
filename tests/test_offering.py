"""Which offer is made, and the first reason against each: by hand, and compared with what calendars and shares say."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_program_file import HEAD
from tests.test_program_offers import GOODS, TRIGGER, offer, program
from tests.test_program_terms import TIERS
from tillstream.kernels.offering import (
    NO_VERSION,
    Candidate,
    Made,
    Occasioned,
    Person,
    Reason,
    Verdict,
    counted_from,
    ends,
    fits,
    instant_ms,
    is_control,
    member_zone,
    no_room,
    offers_in_force,
    share_of,
    verdict,
    worth_of,
)
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.member_state import Profile
from tillstream.schemas.offers import Judgement, Worth
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.program_offers import Frequency, Offer

WARSAW = ZoneInfo("Europe/Warsaw")
AT = datetime(2026, 3, 7, 17, 0, tzinfo=UTC)
ALL = {"marketing": True, "personalised": True, "profiling": True}
LIMITLESS = ""
ZONES = [WARSAW, *map(ZoneInfo, ("America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "UTC"))]


def person(member: str = "m1", consents: Mapping[str, Any] = ALL, tier: str = "", **profile: Any) -> Person:
    return Person(member, member, tier, Profile(**profile), consents)


def judged(
    *offers: str,
    at: datetime = AT,
    who: Person | None = None,
    scores: Mapping[str, float] | None = None,
    made: Sequence[Made] = (),
    event: str = "e-1",
) -> Verdict:
    """What becomes of some offers, whose triggers were met; `scores` by offer id, those of a model that is there."""
    placed = offers_in_force(Timetable([parse_program(program(*offers, head=HEAD + TIERS))]), date(2026, 3, 7))
    said = {name: Judgement(model="m", version="v1", score=score) for name, score in (scores or {}).items()}
    return verdict(placed, WARSAW, Occasioned("shop", event, at, {}), who or person(), lambda offer: said.get(offer.id), made)


def before(hours: float, name: str = "cheese", channel: str = "page", group: str = "treated", valid_h: float = 0.0) -> Made:
    """An earlier decision."""
    at = instant_ms(AT - timedelta(hours=hours))
    return Made(name, f"d{hours}", channel, group, at, at + int(valid_h * 3_600_000), at, "v")


@pytest.mark.parametrize(
    ("more", "how", "reason"),
    [
        ("", {}, None),
        ("from = 2026-03-08", {}, "outside_dates"),
        ("to = 2026-03-06", {}, "outside_dates"),
        ("from = 2026-03-08", {"at": datetime(2026, 3, 7, 23, 0, tzinfo=UTC)}, None),  # Midnight of the 8th in Warsaw.
        ('audience = { tier = ["gold"] }', {}, "not_in_audience"),
        ('audience = { tier = ["gold"] }', {"who": person(tier="gold")}, None),
        ('audience = { attributes = { vip = [1] } }', {"who": person(attributes={"vip": True})}, "not_in_audience"),
        ("", {"who": person(consents={})}, "no_consent_marketing"),
        ("", {"who": person(consents={"marketing": True, "personalised": "yes"})}, "no_consent_personalised"),
        ('model = "m"', {"who": person(consents={**ALL, "profiling": False})}, "no_consent_profiling"),
        ('purpose = ["marketing"]', {"who": person(consents={"marketing": True})}, None),
        ("", {"made": [before(1, valid_h=2)]}, "already_has"),
        ("", {"made": [before(1, valid_h=1)]}, None),
        ("", {"made": [before(1, "other", valid_h=2)]}, None),
        ("cool_down = { hours = 2 }", {"made": [before(1.9)]}, "cool_down"),
        ("cool_down = { hours = 2 }", {"made": [before(2)]}, None),
        ("cap = { per_member = { max = 1, days = 1 } }", {"made": [before(17)]}, "cap_member"),
        ("cap = { per_member = { max = 1, days = 1 } }", {"made": [before(18.1)]}, None),  # Yesterday in Warsaw.
        ("cap = { per_member = { max = 1, days = 1 } }", {"made": [before(1, group="control")]}, "cap_member"),
        ("cap = { per_channel = { max = 2, days = 1 } }", {"made": [before(1, "x"), before(2, "y")]}, "cap_channel"),
        ("cap = { per_channel = { max = 2, days = 1 } }", {"made": [before(1, "x"), before(2, "y", group="control")]}, None),
        ("cap = { per_channel = { max = 2, days = 1 } }", {"made": [before(1, "x"), before(2, "y", channel="sms")]}, None),
        ('model = "m"\nmin_score = 0.5\nexplore = 0', {}, "no_model"),
        ('model = "m"\nmin_score = 0.5\nexplore = 0', {"scores": {"cheese": 0.49}}, "below_min_score"),
        ('model = "m"\nmin_score = 0.5\nexplore = 0', {"scores": {"cheese": 0.5}}, None),
    ],
)  # fmt: skip
def test_offer_is_refused_for_the_first_reason(more: str, how: dict[str, Any], reason: str | None) -> None:
    found = judged(offer(more), **how)
    assert found.against.get("cheese") == reason
    assert len(found.fit) == (reason is None)


def test_reasons_are_asked_in_their_order() -> None:
    """An offer that everything speaks against is refused for one reason after the other, as each is taken away."""
    limits = "cool_down = { hours = 9 }\ncap = { per_member = { max = 1, days = 9 }, per_channel = { max = 1, days = 9 } }"
    more = f'audience = {{ tier = ["gold"] }}\nmodel = "m"\nmin_score = 0.5\nexplore = 0\n{limits}\n'
    gold, held = person(tier="gold"), [before(1, valid_h=2)]
    steps: list[tuple[str, dict[str, Any]]] = [
        (more + "to = 2026-03-06", {"who": person(consents={}), "made": held}),
        (more, {"who": person(consents={}), "made": held}),
        (more, {"who": gold._replace(consents={}), "made": held}),
        (more, {"who": gold._replace(consents={"marketing": True}), "made": held}),
        (more, {"who": gold._replace(consents={"marketing": True, "personalised": True}), "made": held}),
        (more, {"who": gold, "made": held}),
        (more, {"who": gold, "made": [before(1)]}),
        (more, {"who": gold, "made": [before(10)]}),
        (more, {"who": gold, "made": [before(10, "other")]}),
        (more, {"who": gold}),
        (more, {"who": gold, "scores": {"cheese": 0.1}}),
    ]
    order: list[str] = [reason for text, how in steps for reason in judged(offer(text), **how).against.values()]
    assert order == [reason for reason in get_args(Reason) if reason in set(order)]
    assert len(order) == len(steps)


def test_offers_that_fit_are_ordered_by_score_priority_and_position() -> None:
    scored = LIMITLESS + '\nmodel = "m"'
    names = [
        *(offer(LIMITLESS, "last"), offer(LIMITLESS + "\npriority = 5", "third"), offer(LIMITLESS + "\npriority = 5", "fourth")),
        *(offer(scored, "second"), offer(scored, "best")),
    ]
    found = judged(*names, scores={"second": 0.1, "best": 0.3})
    assert [item.placed.offer.id for item in found.fit] == ["best", "second", "third", "fourth", "last"]


def test_explored_offer_says_by_which_probability_and_a_share_of_events_is_explored() -> None:
    text = offer('model = "m"\nmin_score = 0.5\nexplore = 20')
    found = [judged(text, event=f"e-{n}", scores={"cheese": 0.1}) for n in range(500)]
    explored = [item for verdict in found for item in verdict.fit]
    assert 60 <= len(explored) <= 140
    assert {item.judgement.exploration for item in explored if item.judgement} == {0.2}
    assert judged(text, scores={"cheese": 0.6}).fit[0].judgement == Judgement(model="m", version="v1", score=0.6)


def test_model_that_is_not_there_yet_is_explored_as_well_and_else_refused_for_that() -> None:
    placed = offers_in_force(Timetable([parse_program(program(offer('model = "m"\nmin_score = 0.5\nexplore = 20')))]), date(2026, 3, 7))
    unknown = {"cheese": Judgement(model="m", version=NO_VERSION, score=0.0, features={"x": 1.0})}
    events = [Occasioned("shop", f"e-{n}", AT, {}) for n in range(200)]
    found = [verdict(placed, WARSAW, event, person(), lambda offer: unknown.get(offer.id), []) for event in events]
    assert {reason for item in found for reason in item.against.values()} == {"no_model"}
    assert {item.fit[0].judgement.features["x"] for item in found if item.fit and item.fit[0].judgement} == {1.0}


def test_model_is_asked_only_where_nothing_else_speaks_against_the_offer() -> None:
    texts = [offer('model = "m"', name, trigger=TRIGGER) for name in ("has", "fits")]
    texts.append(offer('model = "m"\nto = 2026-03-06', "past"))
    texts.append(offer('model = "m"\naudience = { tier = ["gold"] }', "gold"))
    placed = offers_in_force(Timetable([parse_program(program(*texts, head=HEAD + TIERS))]), date(2026, 3, 7))
    asked: list[str] = []

    def judge(one: Offer) -> Judgement:
        asked.append(one.id)
        return Judgement(model="m", version="v1", score=0.5)

    found = verdict(placed, WARSAW, Occasioned("shop", "e-1", AT, {}), person(), judge, [before(1, "has", valid_h=2)])
    assert asked == ["fits"]
    assert found.against == {"has": "already_has", "past": "outside_dates", "gold": "not_in_audience"}


def test_control_share_is_what_the_offer_says_and_depends_on_offer_and_member_only() -> None:
    first, second = parse_program(program(offer("control = 10"), offer("control = 10", "b"))).program.offers
    members = [f"m{number}" for number in range(5_000)]
    found = [[is_control(item, member) for member in members] for item in (first, second)]
    assert all(400 <= sum(group) <= 600 for group in found)
    assert 25 <= sum(a and b for a, b in zip(*found, strict=True)) <= 80  # Independent: a hundredth.
    (other,) = parse_program(program(offer("control = 10\nbudget = 3\npriority = 4"))).program.offers
    assert [is_control(other, member) for member in members] == found[0]
    (wider,) = parse_program(program(offer("control = 30"))).program.offers
    assert all(is_control(wider, member) for member, control in zip(members, found[0], strict=True) if control)


@given(st.text(), st.text())
def test_shares_stay_within_their_bounds(first: str, second: str) -> None:
    assert 0 <= share_of(first, second) < 2**64


instants = st.datetimes(datetime(2011, 12, 25), datetime(2026, 12, 31), timezones=st.just(UTC))
near_changes = st.sampled_from(
    [
        datetime(2026, 3, 29, 1, tzinfo=UTC),  # Warsaw goes forward,
        datetime(2026, 10, 25, 1, tzinfo=UTC),  # and back.
        datetime(2018, 11, 4, 3, tzinfo=UTC),  # São Paulo skips midnight.
        datetime(2018, 2, 18, 2, tzinfo=UTC),  # It has 23:00 twice.
        datetime(2025, 11, 2, 5, tzinfo=UTC),  # Havana has midnight twice.
        datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia skips a day.
    ]
).flatmap(lambda moment: st.integers(-72 * 60, 72 * 60).map(lambda minutes: moment + timedelta(minutes=minutes)))


@given(
    zone=st.sampled_from(ZONES),
    at=st.one_of(instants, near_changes),
    earlier=st.lists(st.integers(0, 5 * 24 * 60), max_size=8),
    days=st.integers(1, 4),
    most=st.integers(1, 3),
)  # fmt: skip
def test_cap_counts_calendar_days_of_the_member_through_any_change_of_clocks(
    zone: ZoneInfo, at: datetime, earlier: list[int], days: int, most: int
) -> None:
    """The oracle looks at each decision's local date and knows no instants."""
    (capped,) = parse_program(program(offer(f"cap = {{ per_member = {{ max = {most}, days = {days} }} }}"))).program.offers
    moments = [at - timedelta(minutes=minutes) for minutes in earlier]
    today = at.astimezone(zone).date()
    used = sum((today - moment.astimezone(zone).date()).days < days for moment in moments)
    made = [before(0)._replace(at_ms=instant_ms(moment), ends_ms=0) for moment in moments]
    new = before(0)._replace(at_ms=instant_ms(at))
    candidate = Candidate(placed_of(capped), new, None, counted_from(capped.cap.per_member, at, zone), None)
    assert no_room(candidate, capped, made) == ("cap_member" if used >= most else None)


def placed_of(item: Offer) -> Any:
    (placed,) = offers_in_force(Timetable([parse_program(program(offer()))]), date(2026, 3, 7))
    return placed._replace(offer=item)


def test_day_of_a_cap_is_that_of_the_members_own_zone() -> None:
    limits = "cap = { per_member = { max = 1, days = 1 } }"
    held = [before(7)]  # 11:00 in Warsaw, 23:00 in Auckland.
    assert judged(offer(limits), made=held).against == {"cheese": "cap_member"}
    assert judged(offer(limits), made=held, who=person(attributes={"time_zone": "Pacific/Auckland"})).against == {}


def test_zone_that_nobody_knows_is_the_programs() -> None:
    for name in ("Nowhere/Land", "", "../etc", 5, True):
        assert member_zone(Profile(attributes={"time_zone": name}), WARSAW) is WARSAW


def test_offer_ends_with_its_last_day_or_when_its_time_is_up() -> None:
    (short,) = parse_program(program(offer("to = 2026-03-07\nvalid_for = { hours = 2 }"))).program.offers
    assert ends(short, AT, WARSAW) == AT + timedelta(hours=2)
    assert ends(short, AT + timedelta(hours=5), WARSAW) == datetime(2026, 3, 7, 23, 0, tzinfo=UTC)
    assert counted_from(Frequency(1, 1), AT, WARSAW) == instant_ms(datetime(2026, 3, 6, 23, 0, tzinfo=UTC))


def test_goods_fit_by_every_key_that_is_given() -> None:
    (both,) = parse_program(program(offer(goods='goods = { sku = ["59*"], category = ["dairy/**"] }'))).program.offers
    assert fits(both.goods, "591", "dairy/milk")
    assert not fits(both.goods, "591", "fish")
    assert not fits(both.goods, "4", "dairy")
    assert not fits(both.goods, "591", None)


def test_worth_is_told_in_hundredths_of_a_per_cent() -> None:
    (cut,) = parse_program(program(offer(goods=GOODS, trigger=TRIGGER, worth="worth = { percent_off = 12.55 }"))).program.offers
    assert worth_of(cut, "PLN") == Worth(basis_points_off=1_255)
