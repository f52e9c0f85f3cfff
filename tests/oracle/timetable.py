"""Versions of programs in; out: what is in force on a local date, merged into one program."""

from datetime import date
from zoneinfo import ZoneInfo

from tests.oracle.facts import Program


def in_force(programs: list[Program], day: date) -> Program:
    """The latest version of each program that is effective on `day`, their rules in the order of (priority, program id, position).

    Before all of them the units and the currency of the first hold, and no rule.
    """
    latest: dict[str, Program] = {}
    for program in sorted(programs, key=effective_from):
        if effective_from(program) <= day:
            latest[program["program"]["id"]] = program
    if not latest:
        first = min(programs, key=lambda program: (effective_from(program), program["program"]["id"]))
        return {"program": first["program"], "units": first["units"], "groups": {}, "rules": []}
    merged: Program = {"program": {}, "units": {}, "groups": {}, "rules": []}
    for _, program in sorted(latest.items()):
        merged["program"] = merged["program"] or program["program"]
        name = program["program"]["id"]  # Groups are each program's own.
        merged["rules"] += [rule | ({"group": f"{name}/{rule['group']}"} if "group" in rule else {}) for rule in program.get("rules", [])]
        merged["groups"] |= {f"{name}/{group}": terms for group, terms in program.get("groups", {}).items()}
        merged["units"] |= program.get("units", {})
        if "tiers" in program:
            merged["tiers"] = program["tiers"]
    merged["rules"].sort(key=lambda rule: rule.get("priority", 100))
    return merged


def effective_from(program: Program) -> date:
    day: date = program["program"].get("effective_from", date.min)
    return day


def zone_of(programs: list[Program]) -> ZoneInfo:
    """Programs side by side share a zone: their days are the same days."""
    return ZoneInfo(programs[0]["program"]["time_zone"])
