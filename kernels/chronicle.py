"""The explanations of one account's events, from its ledger postings (DESIGN.md §3, G7).

In: the versions of programs, the postings of an account in the order of the ledger, and for a sale its data. Out: an `Explanation`:
of a sale under the member's state before it, with what came back since; of a return or void, by which formula it took back what; of
everything else that gave points, why.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise

from msgspec import structs

from tillstream.kernels.explaining import NOBODY, explain_bonus, explain_sale
from tillstream.kernels.formulas import undone_formula
from tillstream.kernels.posters import Posters
from tillstream.kernels.refold import Refold, summed
from tillstream.kernels.sheets import sheet_of_posting
from tillstream.kernels.timetable import NOTHING
from tillstream.kernels.witness import Occasion, Seen, Witness
from tillstream.schemas.explanations import Back, Bonus, Explanation, RuleExplained
from tillstream.schemas.ledger import Entries, Posting
from tillstream.schemas.member_state import Sheet
from tillstream.schemas.programs import Program, Rule
from tillstream.schemas.receipts import Sale

UNDOING = ("return", "void")

PAYING = ("redemption", "capture", "reversal")
"""Entries of points that paid, and that are given back of these; they are no rule's."""

LinePoints = dict[tuple[str, int], int]
"""Points by rule id and line number."""


class Chronicle:
    """One account's postings, to be explained one by one.

    Args:
        family: all versions that judged them.
        postings: in the order of the ledger; of an account of None, sales without a member.
        as_of: the date of the latest tick, None before the first.
    """

    def __init__(self, family: Posters, postings: Sequence[Posting], as_of: str | None) -> None:
        self.family = family
        self.zone = family.timetable.zone
        self.postings = {posting.posting_id: posting for posting in postings}
        self.about: dict[str, list[Posting]] = {}
        for posting in postings:
            self.about.setdefault(posting.reverses_posting or posting.posting_id, []).append(posting)
        self.seen: dict[str, Seen] = {}
        self.occasions: dict[str, list[Occasion]] = {}
        self.rules: dict[str, dict[str, Rule]] = {}
        self.taken_back = [posting for posting in postings if posting.judged is not None and not self.published(posting)]
        self.stands = self.sheets()
        if family.looks_at_members:
            self.look_back(as_of)

    def look_back(self, as_of: str | None) -> None:
        """Goes through all events once more, up to the latest tick."""
        account_id = next((posting.account_id for posting in self.postings.values() if posting.account_id is not None), None)
        judged = [posting for posting in self.postings.values() if posting.judged is not None or posting.kind in UNDOING]
        if account_id is None or not judged:
            return
        day = date.fromisoformat(as_of).toordinal() if as_of else 0
        witness = Witness(self.family.member_poster(judged[0].program_version).rules, self.zone, day, self.stands)
        Refold(witness, self.family, judged[0], day).run(judged)
        self.seen = witness.sales
        for occasion in witness.occasions:
            self.occasions.setdefault(occasion.posting.posting_id, []).append(occasion)

    def published(self, posting: Posting) -> bool:
        """Whether the version that judged a posting is published still."""
        try:
            self.family.timetable.named(posting.program_version or NOTHING)
        except KeyError:
            return False
        return True

    def read_otherwise(self, posting: Posting) -> str:
        """That earlier events were judged by versions that are not published any more, so that the member may have stood elsewhere."""
        earlier = Counter(each.program_version for each in self.taken_back if place(each) < place(posting))
        latest = self.family.timetable.effective_versions[-1].version
        return "; ".join(
            f"{count} earlier events of the account were judged by program version {version}, which is not published any more, "
            f"and are read by the rules of version {latest}"
            for version, count in earlier.items()
        )

    def program(self, posting: Posting) -> Program:
        """The program that judged a posting; of a version that was taken back, the latest stands in, as for the kernels."""
        try:
            return self.family.timetable.named(posting.program_version or NOTHING).program
        except KeyError:
            return self.family.timetable.effective_versions[-1].program

    def named(self, posting: Posting) -> dict[str, Rule]:
        """Its rules by id."""
        version = posting.program_version or NOTHING
        if version not in self.rules:
            self.rules[version] = {rule.id: rule for rule in self.program(posting).rules}
        return self.rules[version]

    def sheets(self) -> dict[str, Sheet]:
        """What each event's rules stand at, late corrections included."""
        found = {key: sheet_of_posting(posting, self.named(posting)) for key, posting in self.postings.items()}
        return found | {about: sheet for posting in self.postings.values() if (sheet := posting.sheet) and (about := sheet_owner(posting))}

    def sale(self, posting_id: str, sale: Sale) -> Explanation:
        """Why the rules gave a sale what they did, or did not apply."""
        posting = self.postings[posting_id]
        if posting.account_id is None:
            return self.explanation(posting, "this receipt had no member, so no rule looked at it")
        seen = self.seen.get(posting_id, Seen(NOBODY, {}))
        rules = explain_sale(self.program(posting), sale, sale.issued_at.astimezone(self.zone), seen.member, seen.left)
        net, undoing = self.net(posting_id), self.undoing(posting_id)
        rules = [structs.replace(rule, back=list(self.backs(posting, rule, net, undoing))) for rule in rules]
        bonuses = [*map(self.bonus, self.occasions.get(posting_id, ())), *self.exchanges(posting)]
        bonuses = [bonus for bonus in bonuses if bonus.rules]
        notes = [self.paid(posting), *self.otherwise(posting, [*rules, *(rule for bonus in bonuses for rule in bonus.rules)])]
        return structs.replace(self.explanation(posting, "; ".join(filter(None, notes))), rules=rules, bonuses=bonuses)

    def backs(self, sale: Posting, rule: RuleExplained, net: LinePoints, undoing: Sequence[Posting]) -> Iterator[Back]:
        """What all returns so far took back of a rule's points, line by line."""
        for share in rule.shares if rule.applied else ():
            undone = share.points - net.get((rule.rule_id, share.line_no), 0)
            if undone and share.points:
                yield self.back(sale, rule.rule_id, share.line_no, share.points, undone, undoing)

    def back(self, sale: Posting, rule_id: str, line_no: int, points: int, undone: int, undoing: Sequence[Posting]) -> Back:
        """By which formula `undone` of a line's points were taken back once `undoing` had happened."""
        if self.named(sale)[rule_id].on_return == "requalify":
            return Back(line_no, undone, f"judged again on what is left of the receipt: {points} less {points - undone} = {undone}")
        place = sale.line_no.index(line_no)
        amount, quantity = came_back(undoing).get(line_no, (0, 0))
        return Back(line_no, undone, undone_formula(points, amount, sale.amount[place], quantity, sale.quantity_milli[place]))

    def undo(self, posting_id: str) -> Explanation:
        """What a return or void took back, and by which formula."""
        posting = self.postings[posting_id]
        sale = self.postings[posting.reverses_posting or ""]
        undoing = self.undoing(sale.posting_id)
        so_far = undoing[: undoing.index(posting) + 1]
        stand = posting.sheet or taken_back(sheet_of_posting(sale, self.named(sale)), so_far)
        given = stand.given
        rules = []
        for group in (group for group in posting.entries if group.rule_id in given and group.kind == "reversal"):
            rule_id, lines = group.rule_id or "", given[group.rule_id or ""]
            parts = [(number, lines[number], stand.undone[rule_id][number]) for number in group.line_no if number in lines]
            backs = [self.back(sale, rule_id, *part, so_far) for part in parts]
            points = sum(group.points)
            rules.append(RuleExplained(rule_id, group.unit, applied=True, points=points, expires_on=group.expires_on, back=backs))
        note = "the sale had no member, so there was nothing to take back" if posting.account_id is None else self.paid(posting)
        return structs.replace(self.explanation(posting, note), undoes=sale.receipt_id, rules=rules)

    def others(self) -> Iterator[Explanation]:
        """Everything but receipts that gave points, or might have, in order."""
        for posting in sorted(self.postings.values(), key=place):
            if posting.kind in {"activity", "enrolment", "due", "takeover"}:
                bonuses = [*map(self.bonus, self.occasions.get(posting.posting_id, ())), *self.exchanges(posting)]
                bonuses = [bonus for bonus in bonuses if bonus.rules]
                if bonuses:
                    notes = self.otherwise(posting, [rule for bonus in bonuses for rule in bonus.rules])
                    yield structs.replace(self.explanation(posting, "; ".join(notes)), bonuses=bonuses)

    def otherwise(self, posting: Posting, explained: Sequence[RuleExplained]) -> Iterator[str]:
        """Where the ledger says something else than these explanations, which must not be kept from the reader."""
        said = Counter({rule.rule_id: 0 for rule in explained})
        for rule in explained:
            said[rule.rule_id] += rule.points
        given = self.stands[posting.posting_id].given
        for rule_id in dict.fromkeys([*said, *given]):
            points = sum(given.get(rule_id, {}).values())
            known = self.named(posting).get(rule_id)
            if points != said[rule_id] and (known is None or known.on != "balance"):
                yield f"the ledger has {points} points by rule {rule_id}, which these terms do not explain"

    def bonus(self, occasion: Occasion) -> Bonus:
        """The rules that answered to an occasion."""
        posting, judged, seen = occasion
        rules = self.family.member_poster(posting.program_version).rules.bonuses.rules.get(judged.trigger, [])
        if judged.trigger == "period_end":
            rules = [rule for rule in rules if posting.event_id.endswith(f"/{rule.id}")]
        local = datetime.fromisoformat(posting.occurred_at).astimezone(self.zone)
        reason = reason_of(judged.trigger, posting.day, judged.quantity, seen.member.tier)
        return Bonus(judged.trigger, reason, explain_bonus(self.program(posting), rules, judged, local, seen.member, seen.left))

    def exchanges(self, posting: Posting) -> Iterator[Bonus]:
        """What rules `on = "balance"` took and gave behind an event."""
        for taken, given in pairwise(posting.entries):
            if taken.kind == "redemption" and taken.rule_id is not None and (given.kind, given.rule_id) == ("accrual", taken.rule_id):
                rule = RuleExplained(taken.rule_id, given.unit, applied=True, points=sum(given.points), expires_on=given.expires_on)
                yield Bonus("balance", f"balance: {-sum(taken.points)} {taken.unit} were there, and were exchanged", [rule])

    def paid(self, posting: Posting) -> str:
        """What was paid with points, or given back of that."""
        points: Counter[str] = Counter()
        for group in posting.entries:
            if group.rule_id is None and group.kind in PAYING:
                points[group.unit] += sum(group.points)
        return "; ".join(
            f"{-moved} {unit} paid for it" if moved < 0 else f"{moved} {unit} that had paid were given back"
            for unit, moved in points.items()
            if moved
        )

    def undoing(self, sale_id: str) -> list[Posting]:
        return [posting for posting in self.about[sale_id] if posting.kind in UNDOING]

    def net(self, sale_id: str) -> LinePoints:
        """What a sale's lines have by now, after returns and corrections."""
        return points_by_line(group for posting in self.about[sale_id] for group in posting.entries)

    def explanation(self, posting: Posting, note: str) -> Explanation:
        head = self.program(posting).program
        note = "; ".join(filter(None, [note, self.read_otherwise(posting)]))
        kind = posting.kind if posting.kind in {"sale", *UNDOING} else "bonus"
        return Explanation(
            kind, posting.source, posting.event_id, posting.receipt_id, posting.account_id, posting.occurred_at, posting.day,  # type: ignore[arg-type]
            head.id, posting.program_version, head.currency, note,
        )  # fmt: skip


def sheet_owner(posting: Posting) -> str:
    """Whose sheet a posting carries: its own, or that of the sale that it undoes or corrects."""
    return posting.reverses_posting or posting.posting_id


def place(posting: Posting) -> tuple[datetime, str]:
    return datetime.fromisoformat(posting.occurred_at), posting.posting_id


def points_by_line(groups: Iterable[Entries]) -> LinePoints:
    """The sums of what rules gave lines and what was taken back of it."""
    found: LinePoints = {}
    for group in groups:
        if group.rule_id is not None and group.line_no and group.kind in {"accrual", "reversal"}:
            for number, points in zip(group.line_no, group.points, strict=True):
                found[group.rule_id, number] = found.get((group.rule_id, number), 0) + points
    return found


def taken_back(sheet: Sheet, undoing: Sequence[Posting]) -> Sheet:
    """A sale's sheet once `undoing` had happened, where no posting carries it."""
    undone: dict[str, dict[int, int]] = {}
    for (rule_id, number), points in points_by_line(group for posting in undoing for group in posting.entries).items():
        undone.setdefault(rule_id, {})[number] = -points
    return Sheet(sheet.given, undone)


def came_back(undoing: Sequence[Posting]) -> Mapping[int, tuple[int, int]]:
    """Amount and quantity that came back in all, by line number."""
    found: dict[int, tuple[int, int]] = {}
    for posting in undoing:
        found = summed(found, posting)
    return found


def reason_of(trigger: str, day: str, quantity: int, tier: str | None) -> str:
    """What a rule answered to, in words."""
    if trigger == "period_end":
        return f"period_end: a period was judged on {day}, {quantity} were counted in it"
    if trigger == "tier_up":
        return f"tier_up: the member reached {tier}"
    times = f", quantity {quantity}" if quantity != 1 else ""
    return f"{trigger}: on {day}{times}"
