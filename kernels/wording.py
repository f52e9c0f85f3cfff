"""Explanations as sentences for a person. In: what explaining.py and chronicle.py found. Out: text, line by line."""

from collections.abc import Iterator, Sequence

from tillstream.schemas.explanations import Cut, Explanation, RuleExplained, Share, Unmet
from tillstream.schemas.program_words import money

LINES_MAX = 20
"""Line numbers that a sentence names; --json has them all."""


def unmet_words(unmet: Unmet) -> str:
    """
    >>> unmet_words(Unmet("when.weekday", "sat", "the receipt is of wed"))
    'when.weekday: sat wanted, the receipt is of wed'
    """
    wanted = f"{unmet.wanted} wanted, " if unmet.wanted else ""
    return f"{unmet.path}: {wanted}{unmet.found}"


def cut_words(cut: Cut) -> str:
    """What a cap allowed, what was used of it, and what it left."""
    if cut.path == "cap.per_receipt":
        return f"{cut.limit} a receipt allowed"
    if cut.path == "cap.budget":
        return f"{cut.limit} for all members together, {cut.points} were left"
    each = "in all" if cut.per == "campaign" else f"a {cut.per}"
    return f"{cut.limit} {each} allowed, {cut.used} used before, {cut.points} left"


def share_words(share: Share, points: int) -> str:
    """How a line's share came about.

    >>> share_words(Share(1, 1599, 2539, 15, 1890, 1, 16), 25)
    'line 1: floor(25 x 1599 / 2539) = 15, and 1 for its remainder of 1890: 16'
    """
    rest = f", and 1 for its remainder of {share.remainder}: {share.points}" if share.extra else ""
    return f"line {share.line_no}: floor({points} x {share.weight} / {share.total}) = {share.whole}{rest}"


def explanation_words(explanation: Explanation, line_no: int | None = None) -> Iterator[str]:
    """The whole of one event; of its lines, only `line_no` where one is given."""
    yield heading(explanation)
    if explanation.note:
        yield f"  {explanation.note}"
    for rule in explanation.rules:
        yield from rule_words(rule, explanation.currency, line_no, on_lines=explanation.kind == "sale")
    for bonus in explanation.bonuses:
        yield f"  {bonus.reason}"
        for rule in bonus.rules:
            yield from rule_words(rule, explanation.currency, None, on_lines=False)


def heading(explanation: Explanation) -> str:
    what = f"receipt {explanation.receipt_id}" if explanation.kind == "sale" else f"{explanation.kind} {explanation.receipt_id}"
    if explanation.kind == "bonus":
        what = f"event {explanation.event_id}"
    whose = f"account {explanation.account_id}" if explanation.account_id is not None else "no member"
    judged = f", program {explanation.program} {explanation.program_version[:8]}" if explanation.program_version else ""
    undone = f" of receipt {explanation.undoes}" if explanation.undoes else ""
    return f"{what}{undone} of {explanation.source}, {explanation.day}, {whose}{judged}"


def rule_words(rule: RuleExplained, currency: str, line_no: int | None, *, on_lines: bool) -> Iterator[str]:
    """One rule."""
    if rule.unmet is not None:
        yield f"  {rule.rule_id}: nothing"
        yield f"    {unmet_words(rule.unmet)}"
        return
    yield f"  {rule.rule_id}: {rule.points:+} {rule.unit}"
    if rule.lines:
        tender = f", {money(rule.tender)} of it paid with points" if rule.tender else ""
        yield f"    it looked at {numbered(rule.lines)}: {money(rule.gross)} {currency}{tender}"
    if rule.formula:
        yield f"    award: {rule.formula}"
    for cut in rule.cuts:
        yield f"    {cut.path}: {cut_words(cut)}, so {cut.points}"
    if on_lines:
        yield from line_words(rule, line_no)
    for back in rule.back:
        if line_no in {None, back.line_no}:
            yield f"    line {back.line_no} came back, so far: {back.formula}"
    if rule.hold_days:
        yield f"    pending for {rule.hold_days} days"
    if rule.expires_on:
        yield f"    usable until {rule.expires_on}"


def line_words(rule: RuleExplained, line_no: int | None) -> Iterator[str]:
    """What falls to each line, or in full to the one that was asked for."""
    if line_no is None:
        falls = ", ".join(f"{share.points} to line {share.line_no}" for share in rule.shares[:LINES_MAX])
        yield f"    of these {falls}" + (", ..." if len(rule.shares) > LINES_MAX else "")
        return
    for share in rule.shares:
        if share.line_no == line_no:
            yield f"    {share_words(share, rule.points)}"
    for out in rule.left_out:
        if out.line_no == line_no:
            yield f"    not for line {line_no}: {unmet_words(out.unmet)}"


def numbered(numbers: Sequence[int]) -> str:
    """
    >>> numbered([1]), numbered([1, 3])
    ('line 1', 'lines 1, 3')
    """
    shown = ", ".join(map(str, numbers[:LINES_MAX])) + (", ..." if len(numbers) > LINES_MAX else "")
    return f"line {shown}" if len(numbers) == 1 else f"lines {shown}"
