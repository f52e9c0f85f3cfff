"""The load of `clicks` is what it says it is, and the test runs. Tiny loads: nothing here is a measurement."""

from collections import Counter
from itertools import islice
from random import Random
from typing import cast

import pytest

from loadtest.clicks_load import CLAIMED, EVENTS, MEMBERS, STRANGERS, facts, lessons, matched, page_views, program
from loadtest.clicks_pages import ClickPhase, Pages
from tests.test_loadtest import loadtest, report_of
from tillstream.kernels.instants import instant_ms, instant_of
from tillstream.kernels.offering import offers_in_force
from tillstream.kernels.timetable import Timetable
from tillstream.models.features.declared import DECLARED
from tillstream.schemas.clickstream import decode_click

AT_MS = 1_790_000_000_123


def test_page_views_are_clicks_of_known_and_unknown_visitors() -> None:
    pages = list(islice(page_views(1), 2_000))
    clicks = [decode_click(page.at(AT_MS)) for page in pages]
    assert {instant_ms(click.time) for click in clicks} == {AT_MS}
    assert [click.data.visitor_id for click in clicks] == [page.visitor for page in pages]
    assert len({click.id for click in clicks}) == len(clicks)
    claims = sum(click.data.member is not None for click in clicks) / len(clicks)
    assert abs(claims - CLAIMED * MEMBERS / (MEMBERS + STRANGERS)) < 0.05
    names = Counter(str(type(click).__struct_config__.tag).removeprefix("web.") for click in clicks)
    assert names.keys() == EVENTS.keys()
    assert list(islice(page_views(1), 20)) == pages[:20]
    assert not {click.id for click in clicks} & {decode_click(page.at(AT_MS)).id for page in islice(page_views(2), 2_000)}


def test_twenty_offers_are_in_force_and_each_is_met_by_some_page_view() -> None:
    placed = offers_in_force(Timetable([program()]), instant_of(AT_MS).date())
    assert len(placed) == 20
    assert sum(one.offer.model is not None for one in placed) == 18
    met = Counter(
        match.placed.offer.id
        for page in islice(page_views(1), 5_000)
        for match in matched(placed, decode_click(page.at(AT_MS)), AT_MS)
    )
    assert met.keys() == {one.offer.id for one in placed}
    assert 0.3 < sum(met.values()) / 5_000 < 1.5


def test_lessons_have_features_of_visits_and_purchases_and_both_outcomes() -> None:
    some = list(islice(lessons(60), 400))
    assert {lesson.outcome for lesson in some} == {True, False}
    assert set().union(*(lesson.features for lesson in some)) == {one.name for one in DECLARED}


def test_members_agree_to_every_purpose() -> None:
    assert len(facts()) == MEMBERS
    assert all(fact.value["consents"] == {"marketing": True, "personalised": True, "profiling": True} for _, fact in facts()[:10])


def test_page_views_come_at_whole_milliseconds_in_order() -> None:
    pages = cast(Pages, Pages.__new__(Pages))
    pages.views, pages.random = page_views(1), Random(1)
    due = pages.prepare(ClickPhase(1_000.0, 0.5))
    moments = [one.at_ms for one in due]
    assert moments == sorted(moments)
    assert 400 < len(due) < 600
    assert 0 <= moments[0] <= moments[-1] < 500


@pytest.mark.slow
def test_clicks_tiny_load_gives_percentiles_rates_and_a_ratio() -> None:
    report = report_of(loadtest("clicks", "--runs", "1", "--seconds", "2", "--rate", "100", "--pages", "400", "--json"))
    figures = report["figures"]
    assert figures["page_views"] > 100
    assert 0 < figures["triggers"] < figures["page_views"]
    assert figures["latency_ms"]["p50"] > 0
    assert figures["cpu_us_per_page_view"]["worker"] > 0
    assert figures["tillstream"]["page_views"] == 400
    assert figures["faust"]["page_views"] == 200
    assert [goal["at_most"] for goal in report["goals"]] == [True, False]
