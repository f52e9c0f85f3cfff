"""What a version asks for that is not known of the days before it is published, in sentences for whoever publishes it (docs/adr/0033).

In: the programs that are published, and a new one. Out: one sentence per rule and reason. All else that conditions, caps and tiers ask for
is in the postings of programs that look at members.
"""

from collections.abc import Iterable, Iterator, Sequence

from tillstream.kernels.member_rules import looks_at_members
from tillstream.kernels.occasions import ProfileTerms, profile_terms
from tillstream.kernels.rules import bought_id, target_id, watches
from tillstream.schemas.programs import Program, Rule


def unseen(published: Iterable[Program], program: Program) -> list[str]:
    """What of a program's conditions is not known of the days before; nothing where none was published before."""
    there = list(published)
    if not there:
        return []
    if looks_at_members(program) and not any(map(looks_at_members, there)):
        return ["no published version looks at members: what they do is counted from now on"]
    goods, known = {name for each in there for name in watches(each)}, profile_terms(there)
    return [f"rule {rule.id}: {sentence}" for rule in program.rules for sentence in sentences(rule, goods, known)]


def sentences(rule: Rule, goods: set[str], known: ProfileTerms) -> Iterator[str]:
    """What of one rule is not known before."""
    if rule.member is not None and rule.member.bought is not None and bought_id(rule.member.bought) not in goods:
        yield "member.bought: no published version looks for these goods; they are counted of sales from now on"
    if rule.target is not None and target_id(rule) not in goods:
        yield "target: no published version counts these goods so; they are counted of sales from now on"
    for name in unknown_attributes(rule, known):
        yield f"member.attributes.{name}: no published version looks at it; it is known of enrolments from now on"
    if rule.member is not None and rule.member.segment is not None and not known.segments:
        yield "member.segment: no published version looks at segments; they are known of enrolments and publications from now on"
    if rule.on == "birthday" and not known.birthdays:
        yield 'on = "birthday": no published version has such a rule; birthdays are known of enrolments from now on'


def unknown_attributes(rule: Rule, known: ProfileTerms) -> Sequence[str]:
    return [] if rule.member is None else sorted(set(rule.member.attributes or ()) - known.attributes)
