"""What a program may ask of members, triggers, tiers and caps: every mistake of meaning."""

import pytest

from tests.test_program_file import HEAD, rule
from tillstream.schemas.mistakes import InvalidProgram, Mistake
from tillstream.schemas.program_file import parse_program

TIERS = """
[tiers]
window = { months = 12, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 500_000, downgrade = "one_down" }]
"""

SPENDING = "\n[units.points.spending]\nworth = { points = 100, amount = 100 }\n"

WHOLE = (
    HEAD
    + "hold_days = 14\n"
    + SPENDING
    + 'lines = { category = ["dairy/**"] }\nmin_percent = 10\nmax_percent = 50\n[units.stamps]\n'
    + TIERS
    + rule("{ points = 1, per_amount = 100 }", 'on_return = "requalify"\nhold_days = 0', "base")
    + rule(
        "{ multiply = 2, of = 'base' }",
        """member = { tier = ["gold"], kind = ["consumer"], segment = ["families"], attributes = { city = ["Warsaw"], pets = [2, true] } }
cap = { per_member = { points = 2000, per = "month" }, budget = 1_000_000, on_return = "keep" }
once = "day" """,
        "gold",
    )
    + rule(more='member = { bought = { category = "dairy/**", within_days = 30 }, first_purchase = false }', name="dairy")
    + rule(more='member = { visits = { days = 30, min = 3 }, spend = { per = "month", max = 5 }, streak = { weeks = 4 } }', name="often")
    + rule(more='on = "birthday"\nonce = "year"\nwhen = { from = 2026-03-01, hours = ["00:00", "12:00"] }', name="birthday")
    + rule(more='on = "tier_up"\nmember = { tier = ["gold"] }', name="up")
    + rule("{ points = 5, per_item = 2 }", 'on = "activity.review"\nactivity = { stars = [5] }', "review")
    + rule("{ points = 1, per_line = 1 }", 'unit = "stamps"', "stamp")
    + rule(more='on = "balance"\nexchange = { unit = "stamps", points = 9 }', name="tenth")
    + rule("{ steps = [[100, 5]] }", 'on = "period_end"\ntarget = { per = "month" }\nlines = { category = ["dairy/**"] }', "month")
)


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(InvalidProgram) as caught:
        parse_program(text)
    return caught.value.mistakes


def test_program_with_every_key_has_no_mistakes() -> None:
    assert len(parse_program(WHOLE).program.rules) == 10


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (TIERS.replace("months = 12", 'months = 5, kind = "calendar"'), "$.tiers.window.months", "do not fill a calendar year"),
        (TIERS.replace('"spend"', '"points", unit = "point"'), "$.tiers.window.unit", "did you mean 'points'"),
        (TIERS.replace("500_000", "0"), "$.tiers.levels[1].from", "not above the 0 of 'green'"),
        (TIERS.replace('"gold"', '"green"'), "$.tiers.levels[1].id", "taken by $.tiers.levels[0]"),
        (TIERS.replace('count = "spend"', 'count = "money"'), "$.tiers.window.count", "money"),
        (TIERS + rule(more='member = { tier = ["glod"] }'), "$.rules[0].member.tier", "did you mean 'gold'"),
        (TIERS + rule(more='member = { tier = ["xyz"] }'), "$.rules[0].member.tier", "levels are green, gold"),
        (rule(more='member = { tier = ["gold"] }'), "$.rules[0].member.tier", "add [tiers]"),
        (rule(more='member = { teir = ["gold"] }'), "$.rules[0].member.teir", "did you mean 'tier'"),
        (rule(more='unit = "point"'), "$.rules[0].unit", "did you mean 'points'"),
        (rule("{ multiply = 2, of = 'bsae' }") + rule(name="base"), "$.rules[0].award.of", "did you mean 'base'"),
        (rule(more="member = { attributes = { city = [] } }"), "$.rules[0].member.attributes.city", "has no value"),
        (rule(more="member = { bought = { within_days = 30 } }"), "$.rules[0].member.bought", "names no goods"),
        (rule(more='member = { bought = { kind = "gift", within_days = 30 } }'), "$.rules[0].member.bought.kind", "no line is of kind"),
        (rule(more='member = { bought = { sku = "1", within_days = 40000 } }'), "$.rules[0].member.bought.within_days", "hundred years"),
        (rule(more="member = { visits = { min = 3 } }"), "$.rules[0].member.visits", "exactly one of days, months, per"),
        (rule(more='member = { visits = { min = 3, days = 3, per = "day" } }'), "$.rules[0].member.visits", "exactly one"),
        (rule(more="member = { spend = { days = 30 } }"), "$.rules[0].member.spend", "needs `min` or `max`"),
        (rule(more="member = { spend = { days = 30, min = 5, max = 4 } }"), "$.rules[0].member.spend.max", "below `min`, 5"),
        (rule(more="member = { spend = { months = 4000, min = 5 } }"), "$.rules[0].member.spend", "hundred years"),
        (rule(more="member = { streak = { weeks = 0 } }"), "$.rules[0].member.streak.weeks", ">= 1"),
        (rule(more='on = "birthdays"'), "$.rules[0].on", "regex"),
        (rule(more='on = "tier_up"'), "$.rules[0].on", "no tier can be reached"),
        (rule(more='on = "balance"'), "$.rules[0].exchange", "is missing"),
        (rule(more='on = "period_end"'), "$.rules[0].target", "is missing"),
        (rule(more='exchange = { unit = "points", points = 9 }'), "$.rules[0].exchange", 'belongs to rules with on = "balance"'),
        (rule(more='on = "enrolled"\ntarget = { per = "month" }'), "$.rules[0].target", 'belongs to rules with on = "period_end"'),
        (rule(more="activity = { stars = [5] }"), "$.rules[0].activity", "belongs to rules with"),
        (rule(more='on = "activity.review"\nactivity = { stars = [] }'), "$.rules[0].activity.stars", "has no value"),
        (rule(more='on = "balance"\nexchange = { unit = "stamp", points = 9 }') + "[units.stamps]", "$.rules[0].exchange.unit",
         "did you mean 'stamps'"),
        (rule(more='on = "balance"\nexchange = { unit = "points", points = 9 }'), "$.rules[0].exchange", "one way"),
        *[(rule(more=f'on = "balance"\n{limit}\nexchange = {{ unit = "points", points = 9 }}'), f"$.rules[0].{key}", "be cut short")
          for key, limit in (("cap", "cap = { budget = 9 }"), ("once", 'once = "day"'), ("group", 'group = "g"'))],
        (rule(more='unit = "b"\non = "balance"\nexchange = { unit = "points", points = 9 }')
         + rule(more='on = "balance"\nexchange = { unit = "b", points = 9 }', name="back") + "[units.b]", "$.rules[1].exchange", "one way"),
        (rule(more='on = "balance"\nexclusive = true\nexchange = { unit = "stamps", points = 9 }') + "[units.stamps]",
         "$.rules[0].exclusive", "keeps no other rule away"),
        (rule("{ points = 1, per_item = 1 }", 'on = "balance"\nexchange = { unit = "stamps", points = 9 }') + "[units.stamps]",
         "$.rules[0].award", "it can fixed"),
        (rule(more='on = "birthday"\nlines = { sku = ["1"] }'), "$.rules[0].lines", "sees no receipt"),
        (rule(more='on = "birthday"\nexclude = { sku = ["1"] }'), "$.rules[0].exclude", "sees no receipt"),
        (rule(more='on = "birthday"\nwhen = { store = ["1"] }'), "$.rules[0].when.store", "sees no receipt"),
        (rule(more='on = "birthday"\nwhen = { min_amount = 1 }'), "$.rules[0].when.min_amount", "sees no receipt"),
        (rule(more='on = "birthday"\nwhen = { min_positions = 1 }'), "$.rules[0].when.min_positions", "sees no receipt"),
        (rule(more='on = "birthday"\nwhen = { hours = ["08:00", "12:00"] }'), "$.rules[0].when.hours", "due at 00:00"),
        (rule(more='on = "birthday"\nearn_on_points_tender = true'), "$.rules[0].earn_on_points_tender", "sees no receipt"),
        (rule(more='on = "birthday"\ncap = { per_receipt = 5 }'), "$.rules[0].cap.per_receipt", "per_member and budget"),
        (rule(more='on = "birthday"\non_return = "requalify"'), "$.rules[0].on_return", "sees no receipt"),
        (rule(more='on = "period_end"\ntarget = { per = "month" }\nlines = { min_amount = 5 }'), "$.rules[0].lines.min_amount", "steps"),
        (rule("{ steps = [[1, 1]] }", 'on = "birthday"'), "$.rules[0].award", "it can fixed"),
        (rule("{ points = 1, per_amount = 1 }", 'on = "activity.review"'), "$.rules[0].award", "it can fixed, per_item"),
        (rule("{ points = 1, per_line = 1 }", 'on = "period_end"\ntarget = { per = "month" }'), "$.rules[0].award", "it can fixed, steps"),
        (rule(more='on = "enrolled"', name="in") + rule("{ multiply = 2, of = 'in' }"), "$.rules[1].award.of", "answers to 'enrolled'"),
        (rule(more='cap = { on_return = "keep" }'), "$.rules[0].cap.on_return", "not there"),
        (rule(more='cap = { budget = 5, per_member = { points = 6, per = "day" } }'), "$.rules[0].cap.per_member.points", "whole budget"),
        (rule(more='cap = { per_member = { points = 6, per = "ever" } }'), "$.rules[0].cap.per_member.per", "ever"),
        (rule(more='once = "campaign"'), "$.rules[0].once", "campaign"),
        (rule(more="hold_days = 4000"), "$.rules[0].hold_days", "ten years"),
        (SPENDING + "min_percent = 60\nmax_percent = 50\n" + rule(), "$.units.points.spending.max_percent", "less than `min_percent`"),
        (SPENDING + "max_percent = 101\n" + rule(), "$.units.points.spending.max_percent", "<= 100"),
        (SPENDING + 'lines = { category = ["a**"] }\n' + rule(), "$.units.points.spending.lines.category", "whole segment"),
    ],
)  # fmt: skip
def test_mistake_of_meaning_is_told_with_its_path(text: str, path: str, words: str) -> None:
    whole = HEAD + text if "rules" in text else HEAD + text + rule()
    found = mistakes(whole)
    assert [mistake for mistake in found if mistake.path == path and words in str(mistake)], found
