"""Random programs over the whole vocabulary: a seeded `random.Random` in, dictionaries and their TOML out, valid by construction.

Numbers are small and thresholds near to what tests/strategies_history.py buys, so that caps are nearly reached and tiers crossed. Budgets
are on receipts and activities only: what falls due for several accounts at one midnight has no order among them.
"""

from datetime import timedelta
from random import Random
from typing import Any

from tests.strategies import Program, program_text
from tests.strategies_history import FIRST

ZONES = ["Europe/Warsaw", "America/New_York", "Asia/Kathmandu"]
PERIODS = ["day", "week", "month", "quarter", "year"]


def random_programs(random: Random) -> list[Program]:
    """One program; or two versions of it, of which the later one may say anything; or two programs side by side."""
    zone, levels = random.choice(ZONES), ["green", "silver", "gold"] if random.random() < 0.6 else []
    first = random_program(random, zone, levels)
    kind, day = random.choice(["one", "one", "one", "awards", "anything", "beside"]), FIRST.date() + timedelta(days=random.randint(0, 80))
    if kind == "one":
        return [first]
    if kind == "awards":
        rules = [rule | ({"award": {"fixed": random.randint(1, 9)}} if "fixed" in rule["award"] else {}) for rule in first["rules"]]
        return [first, first | {"program": first["program"] | {"effective_from": day}, "rules": rules}]
    if kind == "anything":
        second = random_program(random, zone, random.choice([levels, []]))
        return [first, second | {"program": first["program"] | {"effective_from": day}}]
    second = random_program(random, zone, levels, name="partner")
    terms = {"units": first["units"]} | ({"tiers": first["tiers"]} if levels else {})
    return [first, second | terms | {"program": second["program"] | random.choice([{}, {"effective_from": day}])}]


def random_program(random: Random, zone: str, levels: list[str], name: str = "full") -> Program:
    """Ids of rules of the program `full` have no prefix, so that a later version may go on with them."""
    units = {
        "points": random_unit(random) | ({"negative_balance": "clamp"} if random.random() < 0.3 else {}),
        "stamps": random.choice([{}, {}, random_unit(random)]),
        "coffees": random_unit(random),
    }
    prefix = "" if name == "full" else f"{name}-"
    receipts = [random_receipt_rule(random, f"{prefix}r{n}", f"{prefix}base", levels) for n in range(random.randint(2, 6))]
    rules = [{"id": f"{prefix}base", "award": {"points": random.choice([1, 2]), "per_amount": 100}, "priority": 10}, *receipts]
    rules += [rule | {"id": prefix + rule["id"]} for rule in bonus_rules(random, levels) if random.random() < 0.4]
    program: Program = {
        "program": {"id": name, "currency": "PLN", "time_zone": zone},
        "units": units,
        "groups": {"g": {"stacking": random.choice(["all", "best", "first"])}},
        "rules": rules,
    }
    return program | ({"tiers": random_tiers(random, levels)} if levels else {})


def random_unit(random: Random) -> dict[str, Any]:
    days = {"after_days": random.randint(5, 40)}
    expires = random.choice([None, days, {"after_months": 1, "at": "month_end"}, {"fixed_dates": ["03-31", "05-05"]}])
    unit: dict[str, Any] = {"expires": expires} if expires else {}
    return unit | ({"hold_days": random.randint(1, 20)} if random.random() < 0.25 else {})


def random_tiers(random: Random, levels: list[str]) -> dict[str, Any]:
    count = random.choice(["spend", "visits", "points"])
    steps = {"spend": [15_000, 60_000], "visits": [4, 12], "points": [150, 600]}[count]
    starts = [random.choice([0, 0, steps[0] // 2]), *steps]
    return {
        "window": {"months": random.choice([1, 2, 3]), "count": count, "kind": random.choice(["rolling", "calendar"])},
        "levels": [
            {"id": level, "from": start, "downgrade": random.choice(["one_down", "to_level", "never"])}
            for level, start in zip(levels, starts, strict=True)
        ],
    }


def random_receipt_rule(random: Random, name: str, base: str, levels: list[str]) -> dict[str, Any]:
    awards: list[dict[str, Any]] = [
        {"points": random.randint(1, 3), "per_amount": random.choice([50, 100, 250])},
        {"fixed": random.randint(1, 40)},
        {"points": random.randint(1, 5), "per_item": random.choice([1, 2])},
        {"points": random.randint(1, 9), "per_line": random.choice([1, 2])},
        {"steps": [[1_000, random.randint(1, 9)], [4_000, random.randint(10, 60)]]},
        {"multiply": random.choice([2, 3]), "of": base},
    ]
    options: dict[str, tuple[float, Any]] = {
        "when": (0.4, random_when(random)),
        "lines": (0.4, {"category": [random.choice(["dairy/**", "drinks/*", "**/bread", "**"])]}),
        "exclude": (0.2, {"brand": ["Own"]}),
        "rounding": (0.3, random.choice(["floor", "half_up", "ceil"])),
        "group": (0.3, "g"),
        "exclusive": (0.08, True),
        "cap": (0.5, random_cap(random, on_receipts=True)),
        "earn_on_points_tender": (0.2, True),
        "member": (0.5, random_member(random, levels)),
        "once": (0.15, random.choice([*PERIODS, "ever"])),
        "on_return": (0.15, "requalify"),
        "hold_days": (0.15, random.choice([0, 3, 10])),
    }
    rule = {"id": name, "award": random.choice(awards)}
    rule |= {key: value for key, (share, value) in options.items() if random.random() < share}
    return rule | ({"unit": "stamps"} if random.random() < 0.25 and "multiply" not in rule["award"] else {})


def random_when(random: Random) -> dict[str, Any]:
    day = FIRST.date() + timedelta(days=random.randint(0, 60))
    choices: dict[str, Any] = {
        "weekday": random.sample(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 4),
        "hours": ["08:00", "19:30"],
        "from": day,
        "to": day + timedelta(days=random.randint(5, 60)),
        "min_amount": random.choice([1_000, 3_000, 5_000]),
        "min_positions": random.randint(1, 3),
    }
    return {key: choices[key] for key in random.sample(list(choices), random.randint(1, 2))}


def random_cap(random: Random, *, on_receipts: bool) -> dict[str, Any]:
    """One or two limits; what is no receipt has no limit per receipt, and one member's share is not above the whole budget."""
    choices: dict[str, Any] = {
        "per_member": {"points": random.randint(20, 150), "per": random.choice([*PERIODS, "campaign"])},
        "budget": random.randint(150, 600),
    }
    choices |= {"per_receipt": random.randint(3, 60)} if on_receipts else {}
    cap = {key: choices[key] for key in random.sample(list(choices), random.randint(1, 2))}
    limits_totals = "per_member" in cap or "budget" in cap
    return cap | ({"on_return": "keep"} if limits_totals and random.random() < 0.3 else {})


def random_window(random: Random, bounds: list[int]) -> dict[str, Any]:
    windows: list[dict[str, Any]] = [{"days": random.randint(2, 30)}, {"months": random.choice([1, 2])}, {"per": random.choice(PERIODS)}]
    low, high = sorted(random.sample(bounds, 2))
    return random.choice(windows) | random.choice([{"min": low}, {"max": high}, {"min": low, "max": high}])


def random_member(random: Random, levels: list[str]) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "segment": ["families", "seniors"],
        "kind": [random.choice(["consumer", "retailer"])],
        "attributes": {"city": ["Gdynia", 5], "vip": [True]},
        "first_purchase": random.choice([True, False]),
        "bought": {"within_days": random.randint(1, 40), "category": random.choice(["dairy/**", ["drinks/*", "bakery/*"]])},
        "visits": random_window(random, [1, 2, 3, 5, 8]),
        "spend": random_window(random, [0, 2_000, 8_000, 20_000]),
        "streak": {"weeks": random.choice([2, 3]), "visits": random.choice([1, 2])},
    }
    names = random.sample(list(choices), random.choice([1, 1, 2]))
    if levels and random.random() < 0.5:
        choices["tier"], names = random.sample(levels, 2), ["tier"]
    return {name: choices[name] for name in names}


def bonus_rules(random: Random, levels: list[str]) -> list[dict[str, Any]]:
    """One rule per kind of event; an exchange leads from stamps to coffees and no way back."""
    fixed = {"fixed": random.randint(5, 50)}
    count = random.choice(["amount", "quantity_milli", "visits"])
    target = {"per": random.choice(["week", "month"]), "count": count, "offset_days": random.randint(0, 9)}
    counted = random.choice([fixed, {"steps": [[1, 3], [5_000, 30]]}, {"points": 2, "per_amount": 1_000}])
    rules: list[dict[str, Any]] = [
        {"id": "welcome", "on": "enrolled", "award": fixed},
        {"id": "birthday", "on": "birthday", "award": fixed, "once": "year"},
        {"id": "review", "on": "activity.review", "award": fixed, "activity": {"stars": [4, 5]}, "once": random.choice(["day", "week"])},
        {"id": "survey", "on": "activity.survey", "award": fixed, "group": "g"},
        {"id": "survey2", "on": "activity.survey", "award": {"points": 4, "per_item": 1}, "group": "g"},
        {"id": "display", "on": "activity.planogram", "award": {"points": 3, "per_item": 2}, "cap": random_cap(random, on_receipts=False)},
        {"id": "free", "on": "balance", "unit": "coffees", "exchange": {"unit": "stamps", "points": 9}, "award": {"fixed": 1}},
        {"id": "target", "on": "period_end", "target": target, "award": counted, "lines": {"category": ["dairy/**"]}},
    ]
    if levels:
        rules.append({"id": "up", "on": "tier_up", "award": fixed, "member": {"tier": random.sample(levels, 2)}})
    options: dict[str, tuple[float, Any]] = {
        "member": (0.2, random_member(random, levels)),
        "when": (0.2, {"weekday": random.sample(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 5)}),
        "hold_days": (0.1, random.choice([0, 5])),
    }
    return [{key: value for key, (share, value) in options.items() if random.random() < share} | rule for rule in rules]


def texts_of(programs: list[Program]) -> list[str]:
    return [program_text(program) for program in programs]
