"""Programs that look at members: any order of arrival leads to where the sorted order leads, and the ledger alone gives it again."""

from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from tests.member_strategies import random_member_history, random_member_program
from tests.strategies import FIRST_DAY, Event, envelope, header, post, postings, program_text, raw_of, repeated
from tests.test_posting import conserved, rebuilt, state
from tillstream.kernels.posters import Posters
from tillstream.kernels.sheets import net, sheet_of_posting
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.ledger import Posting, decode_record, encode_record
from tillstream.schemas.program_file import Versioned, parse_program
from tillstream.simulate import Simulation


def posters(*versions: Versioned) -> Posters:
    """What judges members by these versions, also where none of them looks at any."""
    found = Posters(Timetable(versions))
    found.looks_at_members = True
    return found


def member_state(family: Posters, snapshot: Snapshot) -> dict[str, Any]:
    """All that a snapshot knows, members and sheets included, without what comes to nothing."""
    known = state(snapshot)
    known["accounts"] = {name: {u: sums for u, sums in units.items() if any(sums)} for name, units in known["accounts"].items()}
    records = [decode_record(raw) for raw in snapshot.postings.values()]
    about = [record for record in records if isinstance(record, Posting) and record.kind not in {"correction", "return", "void"}]
    given = {p.posting_id: sheet_of_posting(p, family.member_poster(p.program_version).named) for p in about}
    sheets = {key: snapshot.sheets.get(key, sheet) for key, sheet in given.items()}
    nets = {key: {rule: {n: p for n, p in net(sheet, rule).items() if p} for rule in sheet.given} for key, sheet in sheets.items()}
    members = msgspec.to_builtins(snapshot.members)
    for member in members.values():
        member["given"] = {rule: {d: p for d, p in days.items() if p} for rule, days in member.get("given", {}).items()}
        member["given"] = {rule: days for rule, days in member["given"].items() if days}
        member["counts"] = {name: days for name, days in member.get("counts", {}).items() if days}
        member["used"] = {rule: sorted(days) for rule, days in member.get("used", {}).items()}
        member.pop("dues_until", None)
        member.pop("next_due", None)
    known["postings"] = {p.posting_id for p in about if p.kind != "due"}
    return known | {
        "members": members,
        "nets": {key: {rule: lines for rule, lines in found.items() if lines} for key, found in nets.items() if any(found.values())},
    }


@pytest.mark.parametrize("seed", range(150))
def test_history_shuffled_repeated_and_split_gives_the_same_members(seed: int) -> None:
    random = Random(seed)
    program = parse_program(program_text(random_member_program(random)))
    history = random_member_history(random)
    states = []
    for _ in range(4):
        poster = posters(program)
        events = history + repeated(random, history)
        random.shuffle(events)
        snapshot = Snapshot()
        outcomes = post(poster, events, snapshot, random.choice([1, 3, 50]))
        assert not [outcome.problem for outcome in outcomes if outcome.problem]
        conserved(snapshot)
        states.append(member_state(poster, snapshot))
        again = rebuilt(outcomes)
        assert member_state(poster, again) == states[-1]
    assert all(one == states[0] for one in states[1:]), program_text(random_member_program(Random(seed)))


@pytest.mark.parametrize("seed", range(60))
def test_tick_for_noted_accounts_only_does_what_it_does_for_all(seed: int) -> None:
    random = Random(seed)
    program = parse_program(program_text(random_member_program(random)))
    history = random_member_history(random)
    random.shuffle(history)
    day = FIRST_DAY + timedelta(days=random.choice([30, 60, 100, 400]))
    tick = envelope("clock.tick", "last", "clock", {"date": f"{day}"})
    states = []
    for noted in (False, True):
        poster, snapshot = posters(program), Snapshot()
        post(poster, history, snapshot)
        if noted:
            names = {name for date, names in snapshot.new_expiries.items() if date < f"{day}" for name in names}
            whole = snapshot.members
            snapshot.members = {name: member for name, member in whole.items() if name in names}
            post(poster, [tick], snapshot)
            snapshot.members = whole | snapshot.members
        else:
            post(poster, [tick], snapshot)
        states.append(member_state(poster, snapshot))
    assert states[0] == states[1]


@pytest.mark.parametrize("seed", range(30))
def test_entries_sum_to_what_sheets_say(seed: int) -> None:
    random = Random(seed)
    poster = posters(parse_program(program_text(random_member_program(random))))
    history = random_member_history(random)
    random.shuffle(history)
    snapshot = Snapshot()
    found = postings(post(poster, history, snapshot))
    by_rule: dict[tuple[str, str], int] = {}
    for posting in found:
        about = posting.posting_id if posting.kind in {"sale", "activity", "enrolment", "due"} else posting.reverses_posting or ""
        for group in posting.entries:
            if group.rule_id is not None:
                by_rule[about, group.rule_id] = by_rule.get((about, group.rule_id), 0) + sum(group.points)
    for posting in found:
        sheet = snapshot.sheets.get(posting.posting_id)
        if sheet is not None:
            for rule in sheet.given:
                assert by_rule.get((posting.posting_id, rule), 0) == sum(net(sheet, rule).values())


@pytest.mark.parametrize("seed", range(40))
def test_sale_written_straight_from_columns_has_the_bytes_of_one_written_by_objects(seed: int) -> None:
    random = Random(seed)
    program = parse_program(program_text(random_member_program(random)))
    history = sorted(random_member_history(random), key=lambda event: str(event["data"].get("issued_at", event["time"])))
    found = []
    for swift in (True, False):
        family, snapshot = posters(program), Snapshot()
        if not swift:
            family.member_poster_on(FIRST_DAY).only_earns = lambda *_: False  # type: ignore[method-assign]
        records = [raw for outcome in post(family, history, snapshot, 50) for raw in outcome.records]
        found.append((records, member_state(family, snapshot), snapshot.new_expiries, snapshot.budget_moves))
    assert found[0] == found[1]
    assert all(encode_record(decode_record(raw)) == raw for raw in found[0][0])


def test_simulation_tells_the_level_of_each_account() -> None:
    levels = [{"id": "green", "from": 0}, {"id": "gold", "from": 5000}]
    program = {
        "program": {"id": "levels", "currency": "PLN", "time_zone": "UTC"},
        "units": {"points": {}},
        "tiers": {"window": {"months": 12, "count": "spend"}, "levels": levels},
        "rules": [{"id": "base", "award": {"points": 1, "per_amount": 100}}],
    }
    simulation = Simulation(parse_program(program_text(program)))
    simulation.run(raw_of(sale(number, member, amount)) for number, (member, amount) in enumerate([("m1", 4999), ("m2", 5000)]))
    assert simulation.result()["tiers"] == {"m1": "green", "m2": "gold"}


def sale(number: int, member: str, amount: int) -> Event:
    line = {"line_no": 1, "sku": "x", "quantity_milli": 1000, "amount": amount}
    data = header(Random(number), f"S{number}") | {"member": {"scheme": "member", "value": member}, "lines": [line]}
    return envelope("receipt.sale", f"e{number}", "pos/1", data)
