"""The engine's answer in the oracle's form: program texts and a history in, an `Outcome` of `tillstream.simulate.Simulation` out."""

import json
from collections import Counter

from tests.oracle import Outcome
from tests.oracle.facts import Event
from tillstream.kernels.identities import Seal
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.ledger import Entry
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.receipts import Identity
from tillstream.simulate import IDENTITY_KEY, Simulation


def engine_outcome(programs: list[str], events: list[Event]) -> Outcome:
    """What `simulate` says. Budgets it does not tell, so they are left empty."""
    written: list[Entry] = []
    simulation = Simulation(Timetable([parse_program(program) for program in programs]), written.append)
    simulation.run([json.dumps(event).encode() for event in events])
    result = simulation.result()
    names = account_names(events)
    accounts = {names.get(name, name): units for name, units in result["accounts"].items()}
    net = {key: points for key, points in net_of(written, names).items() if points}
    rejected = {f"{place}": problem["code"] for place, problem in enumerate(result["rejected"])}
    tiers = {names.get(name, name): tier for name, tier in result.get("tiers", {}).items()}
    return Outcome(accounts, net, tiers, {}, result["duplicates"], result["waiting"], rejected)


def net_of(written: list[Entry], names: dict[str, str]) -> Counter[tuple[str, str, str, int | None, str]]:
    """Accruals less their reversals; those of no receipt come under their rule alone."""
    by_id = {entry.entry_id: entry for entry in written}
    net: Counter[tuple[str, str, str, int | None, str]] = Counter()
    for entry in written:
        origin = by_id[entry.reverses] if entry.reverses else entry
        if origin.kind == "accrual" and entry.kind in ("accrual", "reversal"):
            account = names.get(origin.account_id or "", origin.account_id or "")
            place = (origin.source, origin.receipt_id or "") if origin.line_no is not None else ("", "")
            net[account, *place, origin.line_no, origin.rule_id or ""] += entry.points
    return net


def account_names(events: list[Event]) -> dict[str, str]:
    """The oracle's names of provisional accounts, `scheme:value`, by the engine's."""
    found = [event["data"].get("member") for event in events] + [event["data"].get("to") for event in events]
    texts = {(identity["scheme"], identity["value"]) for identity in found if identity}
    return {
        Seal(IDENTITY_KEY).account_of(Identity(scheme, value)): value if scheme == "member" else f"{scheme}:{value}"
        for scheme, value in texts
    }
