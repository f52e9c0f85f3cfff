"""Random programs that look at members, and histories with more than receipts, on top of strategies.py."""

from datetime import timedelta
from random import Random
from typing import Any

from tests.strategies import FIRST_DAY, Event, Program, envelope, header, random_history, random_program, random_sale, random_void

PERIODS = ["day", "week", "month", "quarter", "year"]
TIERS = ["green", "silver", "gold"]


def random_window(random: Random) -> dict[str, Any]:
    window: dict[str, Any] = random.choice([{"days": random.randint(1, 20)}, {"months": 1}, {"per": random.choice(PERIODS)}])
    return window | random.choice([{"min": random.choice([1, 2, 3])}, {"max": 2}, {"min": 1, "max": 3}])


def random_terms(random: Random) -> dict[str, Any]:
    """Conditions on the member; at least one."""
    spend = random_window(random)
    spend = {key: value * 10_000 if key in {"min", "max"} else value for key, value in spend.items()}
    choices: dict[str, Any] = {
        "tier": random.sample(TIERS, 2),
        "segment": ["families", "students"],
        "kind": ["consumer"],
        "attributes": {"city": ["Warsaw", "Oslo"]},
        "first_purchase": random.choice([True, False]),
        "bought": {"category": random.choice(["dairy/**", ["fuel/**", "drinks/*"]]), "within_days": random.randint(1, 20)},
        "visits": random_window(random),
        "spend": spend,
        "streak": {"weeks": random.randint(1, 3), "visits": random.randint(1, 2)},
    }
    names = random.sample(sorted(choices), random.choice([1, 1, 2]))
    return {name: choices[name] for name in names}


def random_member_program(random: Random) -> Program:
    """Rules of all triggers; awards stay small, so that nothing overflows, and no budget, whose last points go by arrival."""
    program = random_program(random, rules_max=5)
    for rule in program["rules"]:
        rule["cap"] = {"per_receipt": random.choice([3, 40, 1000])}
        if rule["award"].get("points", 0) > 1000:
            rule["award"] = {"fixed": 17}
        if random.random() < 0.6:
            rule["member"] = random_terms(random)
        if random.random() < 0.2:
            rule["once"] = random.choice([*PERIODS, "ever"])
        if random.random() < 0.4:
            cap = {"points": random.choice([5, 60, 500]), "per": random.choice([*PERIODS, "campaign"])}
            rule["cap"] |= {"per_member": cap, "on_return": random.choice(["give_back", "keep"])}
        if random.random() < 0.3:
            rule["on_return"] = "requalify"
    program["rules"] += random_bonuses(random)
    program["units"]["stamps"] = {}
    if random.random() < 0.8:
        program["tiers"] = random_tiers(random)
    else:
        program["rules"] = [rule for rule in program["rules"] if rule.get("on") != "tier_up"]
        for rule in program["rules"]:
            rule.get("member", {}).pop("tier", None)
    return program


def random_bonuses(random: Random) -> list[dict[str, Any]]:
    bonuses: list[dict[str, Any]] = [
        {"id": "welcome", "on": "enrolled", "award": {"fixed": 50}},
        {"id": "birthday", "on": "birthday", "award": {"fixed": 20}, "once": "year"},
        {"id": "up", "on": "tier_up", "award": {"fixed": 30}},
        {"id": "review", "on": "activity.review", "award": {"points": 5, "per_item": 2}, "once": "week"},
        {"id": "stars", "on": "activity.review", "activity": {"stars": [4, 5]}, "award": {"fixed": 3}},
        {"id": "month", "on": "period_end", "target": {"per": "month", "offset_days": 3}, "award": {"points": 1, "per_amount": 1000}},
        {"id": "week", "on": "period_end", "target": {"per": "week", "count": "visits"}, "award": {"steps": [[1, 1], [2, 5]]}},
        {"id": "stamp", "unit": "stamps", "award": {"points": 1, "per_line": 1}},
    ]
    chosen = [bonus for bonus in bonuses if random.random() < 0.6]
    for bonus in chosen:
        if random.random() < 0.3 and bonus["on" if "on" in bonus else "id"] not in {"enrolled"}:
            bonus["member"] = random_terms(random)
    return chosen


def random_tiers(random: Random) -> dict[str, Any]:
    count = random.choice(["spend", "visits", "points"])
    step = {"spend": 40_000, "visits": 2, "points": 60}[count]
    levels = [
        {"id": name, "from": place * step, "downgrade": random.choice(["one_down", "to_level", "never"])}
        for place, name in enumerate(TIERS)
    ]
    return {"window": {"months": 1, "count": count, "kind": random.choice(["rolling", "calendar"])}, "levels": levels}


def random_activity(random: Random, number: int) -> Event:
    data = {"member": {"scheme": "member", "value": random.choice(["m0", "m1", "m2"])}, "quantity": random.randint(0, 5)}
    event = envelope("activity.review", f"a{number}", "web", data | {"stars": random.randint(1, 5)})
    return event | {"time": header(random, "")["issued_at"]}


def random_enrolment(random: Random, number: int) -> Event:
    day = FIRST_DAY + timedelta(days=random.randint(0, 25))
    attributes = {"city": random.choice(["Warsaw", "Oslo", "Rome"]), "segments": random.sample(["families", "students", "x"], 1)}
    data = {"member_id": f"m{number % 3}", "birth_date": f"1990-{day:%m-%d}", "attributes": attributes}
    return envelope("member.enrolled", f"m{number}", "crm", data) | {"time": header(random, "")["issued_at"]}


def random_member_history(random: Random, sales_n: int = 6) -> list[Event]:
    """Receipts, returns, activities, enrolments and ticks; a sale is returned or voided, not both."""
    events = random_history(random, sales_n, ticks=True, voids=False)
    voided = [random_sale(random, sales_n + number, 4) for number in range(2)]
    events += [*voided, *(random_void(sale) for sale in voided)]
    events += [random_activity(random, number) for number in range(random.randint(0, 6))]
    return events + [random_enrolment(random, number) for number in range(random.randint(0, 5))]
