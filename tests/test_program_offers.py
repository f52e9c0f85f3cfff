"""Offers in a program file: every mistake with its path, advice, and differences in words."""

import pytest

from tests.test_program_file import HEAD, rule
from tests.test_program_terms import TIERS
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.mistakes import InvalidProgram
from tillstream.schemas.program_advice import advice
from tillstream.schemas.program_diff import differences
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.program_offers import purposes

GOODS = 'goods = { category = ["dairy/cheese/**"] }'
TRIGGER = 'trigger = { event = ["view_item"], category = ["dairy/**"] }'
WORTH = "worth = { points = 200 }"
LIMITS = "budget = 1000\ncap = { per_member = { max = 1, days = 7 } }"


def offer(more: str = LIMITS, name: str = "cheese", goods: str = GOODS, trigger: str = TRIGGER, worth: str = WORTH) -> str:
    return f'\n[[offers]]\nid = "{name}"\ntitle = "Cheese today"\n{goods}\n{trigger}\n{worth}\n{more}\n'


def program(*offers: str, head: str = HEAD) -> str:
    return head + rule() + "".join(offers)


def paths(text: str) -> dict[str, str]:
    with pytest.raises(InvalidProgram) as caught:
        parse_program(text)
    return {mistake.path.removeprefix("$.offers[0]"): str(mistake) for mistake in caught.value.mistakes}


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (offer() + offer(), "$.offers[1].id", "taken by $.offers[0]"),
        (offer(goods="goods = {}"), ".goods", "names no goods"),
        (offer(goods='goods = { category = ["a**"] }'), ".goods.category", "whole segment"),
        (offer(goods='goods = { brand = ["Acme"] }'), ".goods.brand", "unknown key"),
        (offer('audience = { tier = ["gold"] }'), ".audience.tier", "add [tiers]"),
        (offer("audience = { attributes = { city = [] } }"), ".audience.attributes.city", "no value"),
        (offer("audience = { first_purchase = true }"), ".audience.first_purchase", "unknown key"),
        (offer(trigger="trigger = {}"), ".trigger.event", "is missing"),
        (offer(trigger='trigger = { event = ["look"] }'), ".trigger.event[0]", "Invalid enum"),
        (offer(trigger='trigger = { event = ["search"], min_amount = 5 }'), ".trigger.min_amount", "belongs to offers"),
        (offer(trigger='trigger = { event = ["search"], first_purchase = true }'), ".trigger.first_purchase", "belongs to offers"),
        (offer(trigger='trigger = { event = ["search"], count = 3 }'), ".trigger.minutes", "within how many"),
        (offer(trigger='trigger = { event = ["search"], minutes = 3 }'), ".trigger.minutes", "asks nothing"),
        (offer(trigger='trigger = { event = ["search"], count = 51, minutes = 3 }'), ".trigger.count", "more than 50"),
        (offer(trigger='trigger = { event = ["search"], count = 2, minutes = 2000 }'), ".trigger.minutes", "more than 1440"),
        (offer(trigger='trigger = { on = "receipt", event = ["search"] }'), ".trigger.event", "belongs to offers"),
        (offer(trigger='trigger = { on = "receipt", count = 2 }'), ".trigger.count", "belongs to offers"),
        (offer(trigger='trigger = { on = "receipt", first_purchase = true }'), ".trigger.first_purchase", "of which goods"),
        (offer(trigger='trigger = { on = "cart_abandoned" }'), ".trigger.minutes", "after how many minutes"),
        (offer(trigger='trigger = { on = "cart_abandoned", minutes = 1441 }'), ".trigger.minutes", "more than 1440"),
        (offer(trigger='trigger = { on = "cart_abandoned", minutes = 5, count = 2 }'), ".trigger.count", "belongs to offers"),
        (offer(trigger='trigger = { on = "cart_abandoned", minutes = 5, event = ["search"] }'), ".trigger.event", "belongs to offers"),
        (offer(trigger='trigger = { on = "cart_abandoned", minutes = 5, min_amount = 5 }'), ".trigger.min_amount", "belongs to offers"),
        (offer(trigger='trigger = { on = "receipt", minutes = 5 }'), ".trigger.minutes", 'with on = "clicks"'),
        (offer(worth="worth = {}"), ".worth", "exactly one"),
        (offer(worth="worth = { points = 5, amount_off = 5 }"), ".worth", "exactly one"),
        (offer(worth='worth = { points = 5, unit = "point" }'), ".worth.unit", "points"),
        (offer(worth="worth = { percent_off = 101 }"), ".worth.percent_off", "at most 100"),
        (offer(worth="worth = { percent_off = nan }"), ".worth.percent_off", "at most 100"),
        (offer(worth="worth = { percent_off = 1.005 }"), ".worth.percent_off", "two decimals"),
        (offer("from = 2026-03-02\nto = 2026-03-01"), ".to", "comes before"),
        (offer("valid_for = { days = 1, hours = 1 }"), ".valid_for", "exactly one"),
        (offer("cool_down = { days = 93 }"), ".cool_down", "not kept longer"),
        (offer("answer = { days = 93 }"), ".answer.days", "not kept longer"),
        (offer("cap = { per_channel = { max = 1, days = 93 } }"), ".cap.per_channel.days", "not kept longer"),
        (offer("budget = 0"), ".budget", "nobody"),
        (offer("control = 100"), ".control", "nobody would get it"),
        (offer("min_score = 0.1"), ".min_score", "name a `model`"),
        (offer('model = "m"\nmin_score = 1.5'), ".min_score", "from 0 to 1"),
        (offer('purpose = ["spam"]'), ".purpose[0]", "Invalid enum"),
        (offer("purpose = []"), ".purpose", "length >= 1"),
    ],
)  # fmt: skip
def test_mistake_in_an_offer_is_told_with_its_path(text: str, path: str, words: str) -> None:
    found = paths(program(text))
    assert words in found.get(path, ""), found


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (offer("cap = { per_member = { max = 1, days = 7 } }"), "$.offers[0]", "no budget"),
        (offer("budget = 5"), "$.offers[0]", "to a member again"),
        (offer(LIMITS + '\nmodel = "m"'), "$.offers[0].model", "only orders"),
        (offer(LIMITS + "\nanswer = { days = 1 }\nvalid_for = { days = 2 }"), "$.offers[0].answer.days", "ends before"),
        (offer(trigger='trigger = { event = ["search"], sku = ["1"] }'), "$.offers[0].trigger", "rarely met"),
    ],
)  # fmt: skip
def test_advice_on_an_offer_is_told_with_its_path(text: str, path: str, words: str) -> None:
    told = [(item.path, item.message) for item in advice(parse_program(program(text)).program) if "$.offers" in item.path]
    assert [item[0] for item in told] == [path]
    assert words in told[0][1]


def test_offer_that_ends_before_its_program_begins_is_told() -> None:
    later = HEAD.replace("time_zone", "effective_from = 2026-04-01\ntime_zone")
    told = [str(item) for item in advice(parse_program(program(offer(LIMITS + "\nto = 2026-03-31"), head=later)).program)]
    assert [text for text in told if "$.offers[0].to: is never made" in text]


def test_offer_with_limits_needs_no_advice() -> None:
    assert not [item for item in advice(parse_program(program(offer())).program) if "offers" in item.path]


BANDIT = '[offer_choice]\npolicy = "bandit"\n'
SCORED = LIMITS + '\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("offers", "path", "words"),
    [
        ([], "$.offer_choice.policy", "nothing to draw from"),
        ([offer(SCORED), offer(LIMITS, "tea")], "$.offer_choice.policy", "no channel has two offers with a model"),
        ([offer(SCORED), offer(SCORED + 'channel = "sms"', "tea")], "$.offer_choice.policy", "nothing to draw from"),
        ([offer(SCORED), offer(SCORED + 'answer = { outcome = "clicked" }', "tea")], "$.offers[1].answer.outcome", "'clicked' can't be"),
    ],
)  # fmt: skip
def test_draw_that_makes_no_sense_is_a_mistake(offers: list[str], path: str, words: str) -> None:
    with pytest.raises(InvalidProgram) as caught:
        parse_program(program(*offers, head=HEAD + BANDIT))
    ((found, told),) = [(mistake.path, str(mistake)) for mistake in caught.value.mistakes]
    assert found == path
    assert words in told


def test_draw_among_offers_of_one_channel_is_no_mistake_and_told_as_a_difference() -> None:
    offers = [offer(SCORED), offer(SCORED, "tea"), offer(SCORED + 'channel = "sms"\nanswer = { outcome = "clicked" }', "bread")]
    new, old = parse_program(program(*offers, head=HEAD + BANDIT)), parse_program(program(*offers))
    told = "offer choice: policy is now bandit; it was not given"
    assert [item.text for item in differences(old.program, new.program)] == [told]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("", offer("", trigger='trigger = { on = "receipt", min_amount = 5000 }'),
         "offer cheese: is new and gives 200 points; title: Cheese today; goods category: dairy/cheese/**; trigger on: receipt; "
         "trigger min amount: 50.00; valid for days: 1"),
        (offer(worth="worth = { percent_off = 12.5 }"), "", "offer cheese: is gone; it gave 12.5% off"),
        (offer(""), offer("budget = 5"), "offer cheese: budget is now 5; it was not given"),
        (offer("budget = 5"), offer("budget = 6"), "offer cheese: budget is 6 instead of 5"),
        (offer(worth="worth = { amount_off = 500 }"), offer(worth="worth = { amount_off = 550 }"),
         "offer cheese: worth amount off is 5.50 instead of 5.00"),
        (offer(trigger='trigger = { on = "cart_abandoned", minutes = 30 }'),
         offer(trigger='trigger = { on = "cart_abandoned", minutes = 60 }'),
         "offer cheese: trigger minutes is 60 instead of 30"),
        (offer("cool_down = { days = 3 }"), offer("cool_down = { hours = 3 }"), None),
    ],
)  # fmt: skip
def test_difference_of_offers_is_told_in_a_sentence(old: str, new: str, sentence: str | None) -> None:
    told = [item.text for item in differences(parse_program(program(old)).program, parse_program(program(new)).program)]
    assert told == ([sentence] if sentence else ["offer cheese: cool down hours is now 3; it was not given",
                                                 "offer cheese: cool down days is not given any more; it was 3"])  # fmt: skip


def test_scored_offer_asks_for_profiling_as_well() -> None:
    plain, scored = parse_program(program(offer(), offer('model = "m"\npurpose = ["marketing"]', "b"), head=HEAD + TIERS)).program.offers
    assert purposes(plain) == ["marketing", "personalised"]
    assert purposes(scored) == ["marketing", "profiling"]


def test_programs_side_by_side_have_their_offers_together_and_no_id_twice() -> None:
    second = HEAD.replace("fresh-club", "easter")
    first = parse_program(program(offer()))
    other = parse_program(second + rule(name="b") + offer(name="eggs"))
    assert [item.id for item in Timetable([first, other]).effective_versions[0].program.offers] == ["eggs", "cheese"]
    with pytest.raises(InvalidProgram, match="offer ids are unique"):
        Timetable([first, parse_program(second + rule(name="b") + offer())])
