"""How sales, and what rules give, move a member's state (schemas/member_state.py, `Member`): the counters that conditions and caps look at.

In: the state, and of a sale its date, its amount, what the watches count of it, and the points of its rules. The state is moved in place.
Out: what of that concerns others than the member: points by unit, and by rule with a budget.
"""

from typing import NamedTuple

from libc.stdint cimport int64_t

cdef enum Trait:
    # What is kept of a rule's points.
    ONCE = 1
    CAPPED = 2
    RAISING = 4
    LIMITED = 8
    AGAIN = 16
    PENDING = 32


class Moved(NamedTuple):
    """What a sale gave: points by unit, points by id of the rules with a budget; whether a return has it judged again, whether some is pending."""

    units: dict
    budgets: list
    again: bool
    pending: bool


cdef class Mover:
    """The rules and watches of one program, as far as a member's state keeps something of them."""

    cdef list ids, units, watched, points_counters
    cdef list traits
    cdef dict rows

    def __init__(self, list rules, list watched, asked, holding_days):
        """
        Args:
            rules: first those for receipts in their order, then all others.
            watched: the watches' counters.
            asked: of which rules and units something is kept, `asked.Asked`.
            holding_days: by id the rules whose points are pending first.
        """
        self.ids = [rule.id for rule in rules]
        self.units = [rule.unit for rule in rules]
        self.traits = [traits_of(rule, asked, holding_days) for rule in rules]
        self.rows = {rule.id: row for row, rule in enumerate(rules)}
        self.watched = watched
        self.points_counters = [f"points/{rule.unit}" for rule in rules]

    def gives(self, list sums):
        """What `sums`, points by row of their rules, are to others than the member."""
        cdef dict units = {}
        cdef list budgets = []
        cdef bint again = False, pending = False
        cdef int traits
        for row, points in sums:
            unit = self.units[row]
            found = units.get(unit)
            units[unit] = points if found is None else found + points
            traits = self.traits[row]
            if traits & LIMITED:
                budgets.append((self.ids[row], points))
            if traits & AGAIN:
                again = True
            if traits & PENDING:
                pending = True
        return Moved(units, budgets, again, pending)

    def sold(self, member, day, amount, list watched, list sums):
        """A sale on the date `day`, with nothing of it come back."""
        cdef dict counts = member.counts
        cdef Py_ssize_t k
        add(counts, "visits", day, 1)
        add(counts, "purchases", day, 1)
        if amount:
            add(counts, "spend", day, amount)
        for k in range(len(watched)):
            if watched[k]:
                add(counts, self.watched[k], day, watched[k])
            else:  # A period with a sale has an end, whatever was bought.
                counts.setdefault(self.watched[k], {}).setdefault(day, 0)
        self.gave_rows(member, day, sums)

    def gave(self, member, day, list sums):
        """Rules gave points, by their ids, for the first time."""
        self.gave_rows(member, day, [(self.rows[rule_id], points) for rule_id, points in sums if rule_id in self.rows])

    cdef int gave_rows(self, member, day, list sums) except -1:
        cdef int traits
        for row, points in sums:
            traits = self.traits[row]
            if traits & RAISING and points:
                add(member.counts, self.points_counters[row], day, points)
            if traits & ONCE and points > 0:
                member.used.setdefault(self.ids[row], []).append(day)
            if traits & CAPPED:
                add(member.given, self.ids[row], day, points)
        return 0

    def took_back(self, member, rule_id, day, points, *, makes_room):
        """A return took back points that a rule had given on `day`."""
        row = self.rows.get(rule_id)
        if row is None or not points:
            return
        cdef int traits = self.traits[row]
        if traits & RAISING:
            add(member.counts, self.points_counters[row], day, -points)
        if traits & CAPPED and makes_room:
            add(member.given, rule_id, day, -points)


cdef int traits_of(rule, asked, holding_days) except -1:
    cdef int traits = 0
    if rule.id in asked.once:
        traits |= ONCE
    if rule.id in asked.capped:
        traits |= CAPPED
    if rule.unit in asked.units:
        traits |= RAISING
    if rule.cap.budget is not None:
        traits |= LIMITED
    if rule.on_return == "requalify":
        traits |= AGAIN
    if rule.id in holding_days:
        traits |= PENDING
    return traits


cdef int add(dict counts, name, day, count) except -1:
    """Moves one counter. A date that comes to nothing stays: what fell due before may have seen something there."""
    found = counts.get(name)
    if found is None:
        counts[name] = {day: count}
        return 0
    cdef dict days = found
    there = days.get(day)
    days[day] = count if there is None else there + count
    return 0
