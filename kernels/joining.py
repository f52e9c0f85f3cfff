"""What an account that is merged into another one did, on its way there, and back (docs/adr/0022).

In: the state of the merged account before and behind an event; out: the change of its sums by date. Or in: such a change, and the state of
the account that takes it over, which is moved in place. All are sums, so the order in which they come does not matter.
"""

from collections.abc import Mapping

from msgspec import structs

from tillstream.kernels.tiers import place_of, start
from tillstream.schemas.member_state import Deeds, Member, Profile, Taken, Takeover
from tillstream.schemas.programs import Tiers

Sums = Mapping[str, Mapping[int, int]]
"""By name, by local date."""


def deeds_of(member: Member) -> Deeds:
    """What an account's member did so far, with what it has taken over itself."""
    used = {name: {day: days.count(day) for day in sorted(set(days))} for name, days in member.used.items()}
    return Deeds(copy_of(member.counts), copy_of(member.given), used)


def change(before: Deeds, after: Deeds) -> Deeds:
    """What has come from `before` to `after`; a date that is new stays, also where it comes to nothing."""
    return Deeds(
        between(before.counts, after.counts), between(before.given, after.given), between(before.used, after.used)
    )


def between(before: Sums, after: Sums) -> dict[str, dict[int, int]]:
    """
    >>> between({"visits": {1: 2}}, {"visits": {1: 2, 3: 0}})
    {'visits': {3: 0}}
    """
    found: dict[str, dict[int, int]] = {}
    for name in dict.fromkeys([*before, *after]):
        there, now = before.get(name, {}), after.get(name, {})
        moved = {day: now.get(day, 0) - there.get(day, 0) for day in sorted(there.keys() | now.keys()) if there.get(day) != now.get(day)}
        if moved:
            found[name] = moved
    return found


def take_over(member: Member, takeover: Takeover, tiers: Tiers | None) -> bool:
    """Moves the state of the account that takes over; whether it is more than before, so that a tier may rise.

    What an account brings that is not merged into this one then, or is already, is passed over: another merge, known later, says otherwise.
    """
    alias = takeover.through[-1]
    known = member.taken.get(alias)
    if (known is None) is not (takeover.part == "whole"):
        return False
    if takeover.part == "over":
        leave(member, alias)
        return False
    add(member, takeover.deeds, 1)
    if known is None:
        member.taken[alias] = Taken(takeover.deeds, takeover.profile)
        adopt_tier(member, takeover, tiers)
        borrow(member)
    else:
        both = (total(known.deeds.counts, takeover.deeds.counts), total(known.deeds.given, takeover.deeds.given))
        profile = takeover.profile if takeover.part == "tied" else known.profile
        member.taken[alias] = Taken(Deeds(*both, total(known.deeds.used, takeover.deeds.used)), profile)
    if takeover.part == "tied":
        adopt_tier(member, takeover, tiers)
        if member.lent == alias:
            give_up(member)
        borrow(member)
    return True


def leave(member: Member, alias: str) -> None:
    """What a merged account brought leaves with it; a tier stays, as tiers do, until its window ends."""
    add(member, member.taken.pop(alias).deeds, -1)
    if member.lent == alias:
        give_up(member)
        borrow(member)


def give_up(member: Member) -> None:
    """A profile that was another account's is that account's again."""
    member.profile, member.lent = Profile(published=member.profile.published), ""


def borrow(member: Member) -> None:
    """As long as nobody enrolled with an account, it has the profile of the first of those merged into it that has one.

    What was published of its own stays; of theirs, `Member.all_published` sees it.
    """
    if member.profile.enrolled_on is not None:
        return
    for alias, taken in member.taken.items():
        if taken.profile.enrolled_on is not None:
            member.profile, member.lent = structs.replace(taken.profile, published=member.profile.published), alias
            return


def adopt_tier(member: Member, takeover: Takeover, tiers: Tiers | None) -> None:
    """The better of two tiers; of one level, the window that ends later."""
    if tiers is None:
        if not member.tier and takeover.tier:
            member.tier, member.window_end = takeover.tier, takeover.window_end
        return
    start(tiers, member)
    if (place_of(tiers, takeover.tier), takeover.window_end) > (place_of(tiers, member.tier), member.window_end):
        member.tier, member.window_end = takeover.tier, takeover.window_end


def add(member: Member, deeds: Deeds, sign: int) -> None:
    """Adds sums to a state, or takes them off; a date on which nothing is left after that is as if it had not been."""
    for sums, more in ((member.counts, deeds.counts), (member.given, deeds.given)):
        for name, days in more.items():
            there = sums.setdefault(name, {})
            for day, count in days.items():
                there[day] = there.get(day, 0) + sign * count
                if sign < 0 and not there[day]:
                    del there[day]
            sums[name] = dict(sorted(there.items()))
    for name, days in deeds.used.items():
        listed = member.used.setdefault(name, [])
        for day, times in days.items():
            for _ in range(abs(times)):
                if (times > 0) is (sign > 0):
                    listed.append(day)
                else:
                    listed.remove(day)


def total(one: Sums, other: Sums) -> dict[str, dict[int, int]]:
    """The sums of both."""
    found: dict[str, dict[int, int]] = {}
    for name in dict.fromkeys([*one, *other]):
        ours, theirs = one.get(name, {}), other.get(name, {})
        found[name] = {day: ours.get(day, 0) + theirs.get(day, 0) for day in sorted(ours.keys() | theirs.keys())}
    return found


def copy_of(sums: Sums) -> dict[str, dict[int, int]]:
    return {name: dict(days) for name, days in sums.items()}
