"""What a program's rules for receipts ask of a member, taken apart for `looking.Looker`: few sums, many bounds on them.

In: compiled rules. Out: per kind of question flat lists, by row of the rule, and the dates that they look at from a day.
"""

from array import array
from datetime import date

from tillstream.kernels.periods import Span, window_span
from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.terms import Bound, Moment, bounds_of, first_failing, who_conditions
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Rule, Window

Sum = tuple[str, Window, int]
"""A counter, a window, and how many weeks back it is shifted."""


class Questions:
    """The questions of one program.

    sums: distinct ones, those of one counter together. bounds: (row, place in `sums`, bound). once: (row, rule id, window).
    rooms: (rule id, window, points per member).
    """

    def __init__(self, compiled: CompiledRules) -> None:
        self.words = compiled.words
        found = [(row, bound) for row, rule in enumerate(compiled.rules) for bound in all_bounds(rule)]
        self.sums: list[Sum] = sorted({sum_of(bound) for _, bound in found}, key=lambda sum_: (sum_[0], repr(sum_)))
        self.bounds = [(row, self.sums.index(sum_of(bound)), bound) for row, bound in found]
        self.once = [(row, rule.id, once_window(rule)) for row, rule in enumerate(compiled.rules) if rule.once is not None]
        rules = {rule.id: rule for rule in compiled.rules}
        self.rooms = [(rule_id, *member_cap(rules[rule_id])) for rule_id in compiled.rooms]
        self.about_who = [(row, conditions) for row, rule in enumerate(compiled.rules) if (conditions := who_conditions(rule))]
        self.looks_at_who = bool(self.about_who)

    def spans(self, day: date) -> list[Span]:
        """First and last dates of the sums, of `once` and of `rooms`, from `day`."""
        sums = [Bound(counter, window, weeks_back=weeks_back).span(day) for counter, window, weeks_back in self.sums]
        windows = [window for *_, window in self.once] + [window for _, window, _ in self.rooms]
        return sums + [window_span(window, day) for window in windows]

    def who(self, member: Member) -> bytes:
        """The rules that tier and profile close, a bit each, as words; no date matters to them."""
        words = array("Q", bytes(8 * self.words))
        for row, conditions in self.about_who:
            if first_failing(conditions, member, Moment(date.min)) is not None:
                words[row // 64] |= 1 << row % 64
        return words.tobytes()


def all_bounds(rule: Rule) -> list[Bound]:
    """The bounds of all conditions on what the member did."""
    return [] if rule.member is None else [bound for _, bounds in bounds_of(rule.member) for bound in bounds]


def sum_of(bound: Bound) -> Sum:
    return bound.counter, bound.window, bound.weeks_back


def once_window(rule: Rule) -> Window:
    """The period in which the rule gives once."""
    return Window(per=None if rule.once == "ever" else rule.once)


def member_cap(rule: Rule) -> tuple[Window, int]:
    """The period of a rule's cap per member, and its points; no bound without."""
    cap = rule.cap.per_member
    if cap is None:
        return Window(), INT64_MAX
    return Window(per=None if cap.per == "campaign" else cap.per), cap.points
