"""What explanations say, word for word: a sentence per condition, award, cap and occasion."""

from typing import Any

import pytest
from msgspec.structs import fields

from tests.strategies import envelope, raw_of
from tillstream.kernels.posters import Posters
from tillstream.kernels.timetable import Timetable
from tillstream.kernels.wording import explanation_words
from tillstream.schemas.explanations import Explanation
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.program_parts import Goods
from tillstream.schemas.programs import Cap, MemberTerms, When
from tillstream.simulate import Deliveries, Simulation
from tillstream.simulated_explanations import explanations_of

PROGRAM = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_months = 12, at = "month_end" }
[units.stamps]
[groups.best]
stacking = "best"
[groups.first]
stacking = "first"
[tiers]
window = { months = 12, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 1_000_000 }]
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
priority = 1
"""

RULE = """
[[rules]]
id = "x"
"""

ENROLLED = {"member_id": "m1", "attributes": {"city": "Oslo", "segments": ["students"]}, "birth_date": "1990-03-05"}


def moment(day: str, clock: str = "18:30") -> dict[str, Any]:
    return {"business_date": day, "issued_at": f"{day}T{clock}:00+01:00"}


def sale(receipt_id: str, day: str, lines: list[tuple[str, int, int]], **more: Any) -> dict[str, Any]:
    goods = [
        {"line_no": number, "sku": "1", "category": category, "quantity_milli": quantity, "amount": amount}
        for number, (category, quantity, amount) in enumerate(lines, 1)
    ]
    head = {"receipt_id": receipt_id, "store_id": "DE-1", "register_id": "1", "currency": "PLN"}
    data = head | moment(day) | {"member": {"scheme": "member", "value": "m1"}, "lines": goods} | more
    return envelope("receipt.sale", f"e-{receipt_id}", "till", data)


EARLIER = sale("r1", "2026-03-02", [("dairy/milk", 1000, 500)])
RECEIPT = sale("r2", "2026-03-11", [("dairy/cheese", 1250, 1599), ("bakery/bread", 2000, 941)])
HISTORY = [envelope("member.enrolled", "m1", "crm", ENROLLED) | {"time": "2026-03-01T08:00:00Z"}, EARLIER, RECEIPT]


def explained(rules: str, events: list[dict[str, Any]] = HISTORY, receipt: str = "r2") -> Explanation:
    """The explanation of one receipt."""
    simulation = Simulation(parse_program(PROGRAM + rules), deliveries=Deliveries())
    simulation.run(raw_of(event) for event in events)
    assert not simulation.rejected
    return explanations_of(simulation, receipt)[0]


def words_of(rules: str, name: str = "x", line_no: int | None = None, **how: Any) -> list[str]:
    """What is said of one rule, without its indentation."""
    said = list(explanation_words(explained(rules, **how), line_no))
    first = next(place for place, text in enumerate(said) if text.startswith(f"  {name}: "))
    last = next((place for place in range(first + 1, len(said)) if not said[place].startswith("    ")), len(said))
    return [text.strip() for text in said[first:last]]


FIXED = "award = { fixed = 9 }\n"

UNMET = [
    ('when = { weekday = ["sat"] }', "when.weekday: sat wanted, the receipt is of wed"),
    ('when = { weekday = ["sat", "sun"] }', "when.weekday: sat or sun wanted, the receipt is of wed"),
    ('when = { hours = ["08:00", "18:30"] }', "when.hours: from 08:00 and before 18:30 wanted, the receipt is of 18:30"),
    ("when = { from = 2026-03-12 }", "when.from: 2026-03-12 or later wanted, the receipt is of 2026-03-11"),
    ("when = { to = 2026-03-10 }", "when.to: 2026-03-10 or earlier wanted, the receipt is of 2026-03-11"),
    ('when = { store = ["PL-*"] }', "when.store: PL-* wanted, the store is DE-1"),
    ("when = { min_amount = 5000 }", "when.min_amount: 5000 wanted, all lines come to 2540"),
    ("when = { min_positions = 3 }", "when.min_positions: 3 wanted, the receipt has 2"),
    ('member = { tier = ["gold"] }', "member.tier: gold wanted, the member is green"),
    ('member = { segment = ["families"] }', "member.segment: families wanted, the member is of students"),
    ('member = { kind = ["retailer"] }', "member.kind: retailer wanted, the member is a consumer"),
    ('member = { attributes = { city = ["Warsaw"] } }', "member.attributes.city: Warsaw wanted, the member has Oslo"),
    ("member = { attributes = { vip = [true] } }", "member.attributes.vip: true wanted, the member has none"),
    ("member = { first_purchase = true }", "member.first_purchase: a first purchase wanted, the member has bought before"),
    (
        'member = { bought = { category = "dairy/**", within_days = 7 } }',
        "member.bought: category dairy/** in the last 7 days wanted, the last was on 2026-03-02",
    ),
    (
        'member = { bought = { category = ["fuel/**", "drinks"], within_days = 30 } }',
        "member.bought: category fuel/** or drinks in the last 30 days wanted, there was none",
    ),
    ("member = { visits = { min = 3, days = 30 } }", "member.visits: 3 in 30 days wanted, this is the 2nd"),
    ("member = { visits = { max = 1, per = \"month\" } }", "member.visits: at most 1 in the running month wanted, this is the 2nd"),
    ("member = { spend = { min = 5000, months = 1 } }", "member.spend: 5000 in 1 month wanted, with this receipt it is 3040"),
    ("member = { streak = { weeks = 3 } }", "member.streak: a visit in each of 3 weeks wanted, the week of 2026-02-23 has 0"),
    (
        "member = { streak = { weeks = 2, visits = 2 } }",
        "member.streak: 2 visits in each of 2 weeks wanted, the week of 2026-03-02 has 1",
    ),
    ('once = "month"', "once: once a month wanted, it gave already on 2026-03-02"),
    ('once = "ever"', "once: once ever wanted, it gave already on 2026-03-02"),
    ('lines = { category = ["fuel/**"] }', "lines.category: fuel/** wanted, no line matches"),
    ('lines = { category = ["dairy/**"], brand = ["Acme"] }', "lines.brand: Acme wanted, the only line left does not match"),
    ('lines = { sku = ["2"] }', "lines.sku: 2 wanted, no line matches"),
    ('lines = { sku = ["1"], kind = ["deposit"] }', "lines.kind: deposit wanted, no line matches"),
    ('exclude = { category = ["dairy/**", "bakery/**"] }', "exclude.category: anything but dairy/** or bakery/** wanted, no line matches"),
    ('lines = { category = ["bakery/**"], min_amount = 1000 }', "lines.min_amount: 1000 wanted, eligible lines come to 941"),
    ("lines = { min_quantity_milli = 5000 }", "lines.min_quantity_milli: 5000 wanted, eligible lines come to 3250"),
    ("cap = { per_receipt = 0 }", "cap.per_receipt: 0 a receipt allowed"),
    ('cap = { per_member = { points = 9, per = "month" } }', "cap.per_member: 9 a month allowed, 9 used before, 0 left"),
    ("cap = { budget = 9 }", "cap.budget: 9 for all members together, 0 were left"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "sentence"), UNMET, ids=[keys for keys, _ in UNMET])
def test_words_of_a_condition_that_does_not_hold(keys: str, sentence: str) -> None:
    assert words_of(f"{RULE}{FIXED}{keys}\n") == ["x: nothing", sentence]


def test_words_every_condition_of_a_rule_has_its_sentence() -> None:
    said = {sentence.partition(":")[0] for _, sentence in UNMET}
    tables = {"when": When, "lines": Goods, "member": MemberTerms, "cap": Cap}
    keys = {f"{table}.{field.encode_name}" for table, kind in tables.items() for field in fields(kind)} | {"lines.min_amount", "once"}
    covered = {path if path.count(".") <= 1 else path.rpartition(".")[0] for path in said}
    assert keys - {"cap.on_return"} <= covered


def test_words_of_an_earlier_purchase_that_is_missing() -> None:
    rule = f"{RULE}{FIXED}member = {{ first_purchase = false }}\n"
    sentence = "member.first_purchase: an earlier purchase wanted, this is the first"
    assert words_of(rule, events=[RECEIPT]) == ["x: nothing", sentence]


def test_words_of_goods_that_no_rule_named_the_kind_of() -> None:
    bag = sale("r2", "2026-03-11", [("bags", 1000, 20)])
    bag["data"]["lines"][0]["kind"] = "deposit"
    sentence = "lines.kind: item or service, as no other is named, wanted, no line matches"
    assert words_of(RULE + FIXED, events=[bag]) == ["x: nothing", sentence]


def test_words_of_goods_that_one_key_after_the_other_leaves_out() -> None:
    receipt = sale("r2", "2026-03-11", [("dairy", 1000, 1), ("dairy", 1000, 2), ("bakery", 1000, 3)])
    rule = f'{RULE}{FIXED}lines = {{ category = ["dairy"], brand = ["Acme", "Own*"] }}\n'
    sentence = "lines.brand: Acme or Own* wanted, none of the 2 lines left matches"
    assert words_of(rule, events=[receipt]) == ["x: nothing", sentence]


def test_words_of_a_receipt_without_lines() -> None:
    assert words_of(RULE + FIXED, events=[sale("r2", "2026-03-11", [])]) == ["x: nothing", "lines: a line wanted, the receipt has none"]


RIVALS = [
    ("exclusive = true\nid = \"y\"", "", "exclusive: rule y came before and lets none follow"),
    ('group = "first"\nid = "y"', 'group = "first"', "group first: rule y came first"),
    ('group = "best"\nid = "y"', 'group = "best"', "group best: rule y won with 40 points, this one has 9"),
    ('group = "best"\npriority = 200\nid = "y"', 'group = "best"', "group best: rule y won with 40 points, this one has 9"),
]


@pytest.mark.parametrize(("rival", "keys", "sentence"), RIVALS)
def test_words_of_a_rule_that_another_kept_out(rival: str, keys: str, sentence: str) -> None:
    assert words_of(f"[[rules]]\naward = {{ fixed = 40 }}\n{rival}\n{RULE}{FIXED}{keys}\n") == ["x: nothing", sentence]


AWARDS = [
    ("{ points = 1.5, per_amount = 100 }", "floor(2540 x 1.5 / 100) = 38"),
    ('{ points = 1.5, per_amount = 100 }\nrounding = "ceil"', "ceil(2540 x 1.5 / 100) = 39"),
    ("{ fixed = 9 }", "9 at once"),
    ("{ points = 5, per_item = 2 }", "5 x 1 = 5, by 1 full sets of 2 articles, line by line"),
    ("{ points = 5, per_item = 1 }", "5 x 3 = 15, by 3 whole articles, line by line"),
    ("{ points = 5, per_line = 2 }", "5 x floor(2 / 2) = 5, by 2 lines"),
    ("{ steps = [[1000, 5], [2000, 12], [9000, 80]] }", "2540 reaches 2000: 12"),
    ('{ multiply = 3, of = "base" }', "floor((3 - 1) x 25) = 50, 25 being what rule base gave these lines"),
]


@pytest.mark.parametrize(("award", "sentence"), AWARDS, ids=[award for award, _ in AWARDS])
def test_words_of_an_award_have_its_numbers(award: str, sentence: str) -> None:
    assert f"award: {sentence}" in words_of(f"{RULE}award = {award}\n")


@pytest.mark.parametrize(
    ("award", "sentence"),
    [
        ("{ points = 1, per_amount = 5000 }", "award: floor(2540 x 1 / 5000) = 0"),
        ("{ steps = [[9000, 80]] }", "award: 2540 stays below 9000: 0"),
        ("{ points = 5, per_item = 3 }", "award: 5 x 0 = 0, by 0 full sets of 3 articles, line by line"),
    ],
)
def test_words_of_an_award_that_comes_to_nothing(award: str, sentence: str) -> None:
    assert words_of(f"{RULE}award = {award}\n") == ["x: nothing", sentence]


def test_words_of_a_rule_that_applied() -> None:
    assert words_of("", "base") == [
        "base: +25 points",
        "it looked at lines 1, 2: 25.40 PLN",
        "award: floor(2540 x 1 / 100) = 25",
        "of these 16 to line 1, 9 to line 2",
        "usable until 2027-03-31",
    ]


def test_words_of_one_line_show_its_remainder() -> None:
    assert words_of("", "base", 1)[3] == "line 1: floor(25 x 1599 / 2540) = 15, and 1 for its remainder of 1875: 16"
    assert words_of("", "base", 2)[3] == "line 2: floor(25 x 941 / 2540) = 9"


def test_words_of_a_line_that_a_rule_left_out() -> None:
    rule = f'{RULE}{FIXED}lines = {{ category = ["dairy/**"] }}\n'
    assert "not for line 2: lines.category: dairy/** wanted, the line is bakery/bread" in words_of(rule, line_no=2)


def test_words_of_points_that_paid_name_their_part_of_the_basis() -> None:
    paid = sale("r2", "2026-03-11", [("dairy/cheese", 1000, 1600), ("bakery", 1000, 400)])
    paid["data"]["tenders"] = [{"type": "points", "amount": 500, "points": 50}]
    said = words_of("", "base", events=[paid])
    assert said[1:3] == ["it looked at lines 1, 2: 20.00 PLN, 5.00 of it paid with points", "award: floor(1500 x 1 / 100) = 15"]
    assert explained("", [paid]).note == "50 points paid for it"


CUTS = [
    ("cap = { per_receipt = 5 }", "cap.per_receipt: 5 a receipt allowed, so 5"),
    ('cap = { per_member = { points = 12, per = "month" } }', "cap.per_member: 12 a month allowed, 9 used before, 3 left, so 3"),
    ("cap = { budget = 12 }", "cap.budget: 12 for all members together, 3 were left, so 3"),
]


@pytest.mark.parametrize(("cap", "sentence"), CUTS)
def test_words_of_a_cut_say_what_was_left(cap: str, sentence: str) -> None:
    assert sentence in words_of(f"{RULE}{FIXED}{cap}\n")


def back(number: int, amount: int, quantity: int = 0) -> dict[str, Any]:
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": quantity, "amount": amount}
    data = {"receipt_id": f"b{number}", "store_id": "DE-1", "register_id": "1", "currency": "PLN", **moment(f"2026-03-1{number + 1}")}
    return envelope("receipt.return", f"e-b{number}", "till", data | {"original_receipt_id": "r2", "lines": [line]})


def test_words_of_what_came_back_have_the_formula_so_far() -> None:
    events = [*HISTORY, back(1, 500), back(2, 300)]
    assert "line 1 came back, so far: floor(16 x 800 / 1599) = 8" in words_of("", "base", events=events)
    said = list(explanation_words(explained("", events, "b2")))
    assert said[0].startswith("return b2 of receipt r2 of till, 2026-03-13, account m1")
    assert said[1:3] == ["  base: -3 points", "    line 1 came back, so far: floor(16 x 800 / 1599) = 8"]
    whole = [*events, back(3, 799, 1250)]
    assert "line 1 came back, so far: all of the line came back: 16" in words_of("", "base", events=whole)


def test_words_of_a_rule_that_is_judged_again() -> None:
    rule = f'{RULE}{FIXED}on_return = "requalify"\nwhen = {{ min_amount = 2500 }}\n'
    said = words_of(rule, events=[*HISTORY, back(1, 100)])
    assert said[-3:-1] == [
        "line 1 came back, so far: judged again on what is left of the receipt: 6 less 0 = 6",
        "line 2 came back, so far: judged again on what is left of the receipt: 3 less 0 = 3",
    ]


def test_words_of_a_receipt_without_member() -> None:
    nobody = sale("r2", "2026-03-11", [("dairy", 1000, 100)])
    del nobody["data"]["member"]
    assert list(explanation_words(explained("", [nobody]))) == [
        "receipt r2 of till, 2026-03-11, no member, program club " + parse_program(PROGRAM).version[:8],
        "  this receipt had no member, so no rule looked at it",
    ]


def test_words_of_a_duplicate_and_a_conflict_say_that_it_counts_once() -> None:
    other = sale("r2", "2026-03-11", [("dairy", 1000, 7)])
    simulation = Simulation(parse_program(PROGRAM), deliveries=Deliveries())
    simulation.run(raw_of(event) for event in [*HISTORY, RECEIPT, other])
    note = explanations_of(simulation, "r2")[0].note
    assert note == "it came once more and counts once; it came once with other data, which was refused"


def test_words_of_a_return_that_waits_name_its_sale() -> None:
    explanation = explained("", [back(1, 5)], "b1")
    assert list(explanation_words(explanation))[1] == "  it waits for its sale r2, which has not come"


BONUSES = """
[[rules]]
id = "welcome"
on = "enrolled"
award = { fixed = 50 }
[[rules]]
id = "cake"
on = "birthday"
award = { fixed = 20 }
member = { tier = ["gold"] }
[[rules]]
id = "up"
on = "tier_up"
award = { fixed = 30 }
[[rules]]
id = "review"
on = "activity.review"
activity = { stars = [5] }
award = { points = 5, per_item = 2 }
[[rules]]
id = "month"
on = "period_end"
target = { per = "month" }
award = { points = 1, per_amount = 1000 }
[[rules]]
id = "stamp"
unit = "stamps"
award = { points = 4, per_line = 1 }
[[rules]]
id = "tenth"
on = "balance"
exchange = { unit = "stamps", points = 9 }
award = { fixed = 100 }
"""


def test_words_of_bonuses_give_their_reason() -> None:
    member = {"member": {"scheme": "member", "value": "m1"}, "quantity": 4}
    big = sale("r3", "2026-03-12", [("dairy", 1000, 1_000_000)])
    reviews = [
        envelope("activity.review", f"a{stars}", "web", member | {"stars": stars}) | {"time": f"2026-03-20T1{stars}:00:00Z"}
        for stars in (4, 5)
    ]
    tick = envelope("clock.tick", "t", "clock", {"date": "2026-04-02"}) | {"time": "2026-04-02T00:00:00Z"}
    simulation = Simulation(parse_program(PROGRAM + BONUSES), deliveries=Deliveries())
    simulation.run(raw_of(event) for event in [*HISTORY, big, *reviews, tick])
    said = [text for each in explanations_of(simulation) if each.kind == "bonus" for text in list(explanation_words(each))[1:]]
    assert [text for text in said if "usable" not in text] == [
        *("  enrolled: on 2026-03-01", "  welcome: +50 points", "    award: 50 at once"),
        *("  birthday: on 2026-03-05", "  cake: nothing", "    member.tier: gold wanted, the member is green"),
        *("  activity.review: on 2026-03-20, quantity 4", "  review: nothing", "    activity.stars: 5 wanted, the event says otherwise"),
        *("  activity.review: on 2026-03-20, quantity 4", "  review: +10 points", "    award: 5 x floor(4 / 2) = 10"),
        "  period_end: a period was judged on 2026-04-01, 1003040 were counted in it",
        *("  month: +1003 points", "    award: floor(1003040 x 1 / 1000) = 1003"),
    ]
    big_said = list(explanation_words(explanations_of(simulation, "r3")[0]))
    assert big_said[-4:-2] == ["  tier_up: the member reached gold", "  up: +30 points"]
    second = list(explanation_words(explanations_of(simulation, "r2")[0]))
    assert second[-3:-1] == ["  balance: 9 stamps were there, and were exchanged", "  tenth: +100 points"]


def test_words_say_where_the_ledger_has_something_else() -> None:
    simulation = Simulation(parse_program(PROGRAM), deliveries=Deliveries())
    simulation.run(raw_of(event) for event in HISTORY)
    simulation.poster = Posters(Timetable([parse_program(PROGRAM.replace("points = 1,", "points = 2,"))]))
    note = explanations_of(simulation, "r2")[0].note or ""
    assert note.startswith("the ledger has 25 points by rule base, which these terms do not explain; 2 earlier events of the account were")


def test_words_of_points_that_are_held_first_say_how_long() -> None:
    assert "pending for 14 days" in words_of(f"{RULE}{FIXED}hold_days = 14\n")
    assert "pending for 14 days" not in words_of(f"{RULE}{FIXED}", "base")
