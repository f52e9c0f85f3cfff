"""What the ledger knows: the state that postings are judged by and that applying them changes.

`simulate` keeps one snapshot for everything; a worker loads one per batch, with just the keys that the batch names. State changes in one
place only, `Snapshot.record`, which reads nothing but the ledger record: so the live path, the replay of the ledger's tail and a full
rebuild end equal (G5).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct

from tillstream.kernels.holdings import NEVER, Holding, Units, sum_of
from tillstream.kernels.kin import ALONE, Kin
from tillstream.kernels.set_aside import note_hold, note_pending
from tillstream.schemas.ledger import Entries, Posting, Refused, Waiting, decode_record
from tillstream.schemas.member_state import Member, Sheet


class Returned(Struct):
    """What has come back of one sale: amount and quantity per line number, points undone per entry number; `day` is the latest return's."""

    amount: dict[int, int] = {}
    quantity_milli: dict[int, int] = {}
    points: dict[int, int] = {}
    day: str = ""


class Snapshot:
    """Accounts, postings by natural key, what came back of sales, and events that wait for their sale.

    members: the state of accounts' members, `member_texts` the same as JSON where its sale's record had to say it; sheets: what rules of
    events stand at, where that is not what their posting gave; chronicles: per account the instants of its events by their keys, for
    judging them again.

    `horizon` is the latest local date whose postings are no longer held here; None: all are. `new_expiries` names, per date, accounts that
    hold points which expire on it, or are held or pending until then, and may not have held any before; and those for which something is
    due on the day after. `new_spendings` names, per date, accounts that spent points on it, or had some given back, and so may have changed
    what expires of their group. `groups` has the accounts that together are what a member has, by each of them; those of other partitions
    are in `alias_units`, to be read only.
    """

    def __init__(self, as_of: str | None = None) -> None:
        self.as_of = as_of
        self.horizon: str | None = None
        self.accounts: dict[str, Units] = {}
        self.postings: dict[str, bytes] = {}
        self.returned: dict[str, Returned] = {}
        self.waiting: dict[str, dict[str, bytes]] = {}
        self.members: dict[str, Member] = {}
        self.member_texts: dict[str, bytes] = {}
        self.sheets: dict[str, Sheet] = {}
        self.chronicles: dict[str, dict[str, str]] = {}
        self.groups: Mapping[str, Sequence[str]] = {}
        self.alias_units: dict[str, Units] = {}
        self.new_expiries: dict[str, set[str]] = {}
        self.new_spendings: dict[str, set[str]] = {}
        self.changed_accounts: set[str] = set()
        self.new_postings: dict[str, str] = {}
        self.changed_returned: set[str] = set()
        self.changed_waiting: set[str] = set()
        self.changed_members: set[str] = set()
        self.changed_sheets: set[str] = set()
        self.new_events: dict[str, dict[str, str]] = {}
        self.budget_moves: dict[str, int] = {}

    def units(self, account_id: str) -> Units:
        """The account's holdings; an unknown account holds nothing."""
        return self.accounts.setdefault(account_id, {})

    def group_units(self, account_id: str) -> Units:
        """What the account's member has in all, for a look only."""
        group = self.groups.get(account_id)
        if group is None:
            return self.units(account_id)
        return sum_of(map(self.held, group))

    def held(self, account_id: str) -> Units:
        """What an account holds, in whatever partition; for a look only."""
        found = self.accounts.get(account_id)
        return self.alias_units.get(account_id, {}) if found is None else found

    def kin(self, account_id: str) -> Kin:
        """What the other accounts of an account's group hold, for a look only."""
        group = self.groups.get(account_id)
        if group is None:
            return ALONE
        place = group.index(account_id)
        before, behind = (list(filter(None, map(self.held, names))) for names in (group[:place], group[place + 1 :]))
        return Kin(before, behind) if before or behind else ALONE

    def holds_elsewhere(self, account_id: str) -> dict[str, str]:
        """The holds that other accounts of the group made and that are known to them still: by hold id the account."""
        return {
            hold_id: name
            for name in self.groups.get(account_id, ())
            if name != account_id
            for holding in self.held(name).values()
            for hold_id, hold in holding.holds.items()
            if hold.day
        }

    def remember(self, records: Iterable[bytes]) -> None:
        """Takes postings that history recalled, as they were; nothing of it counts as changed."""
        postings = [(raw, record) for raw in records if isinstance(record := decode_record(raw), Posting)]
        complete = {record.reverses_posting for _, record in postings} & self.returned.keys()
        for raw, record in postings:
            self.postings.setdefault(record.posting_id, raw)
            if record.reverses_posting is not None and record.reverses_posting not in complete:
                self._note_returned(record, record.reverses_posting)
                self.changed_returned.discard(record.reverses_posting)

    def record(self, raw: bytes) -> Posting | Waiting | Refused:
        """Applies one ledger record, and gives what it held."""
        record = decode_record(raw)
        self.apply(record, raw)
        return record

    def apply(self, record: Posting | Waiting | Refused, raw: bytes) -> None:
        """Applies a ledger record that is decoded already; `raw` is its bytes."""
        if isinstance(record, Waiting):
            self.waiting.setdefault(record.sale_id, {})[record.posting_id] = bytes(record.event)
            self.changed_waiting.add(record.sale_id)
            return
        if isinstance(record, Refused):
            return
        if record.account_id is not None:
            self._move(record)
        if record.kind == "tick":
            if record.closes:
                self.as_of = max(self.as_of or record.day, record.day)
            return
        self.hold(record.posting_id, record.day, raw)
        if record.member is not None and record.account_id is not None:
            self._note_member(record, record.account_id, record.member)
        if record.kind == "correction":
            return
        if record.kind == "sale" and record.posting_id in self.waiting:
            del self.waiting[record.posting_id]
            self.changed_waiting.add(record.posting_id)
        if record.reverses_posting is not None:
            self._note_returned(record, record.reverses_posting)

    def hold(self, posting_id: str, day: str, raw: bytes) -> None:
        """Keeps a posting under its local date."""
        self.postings[posting_id] = raw
        self.new_postings[posting_id] = day

    def stand(self, account_id: str, member: Member, posting_id: str, occurred_at: str, text: bytes | None = None) -> None:
        """Keeps the state of an account's member behind an event, and when that was; `text` is the state as JSON, if somebody has it."""
        self._keep_member(account_id, member)
        if text is not None:
            self.member_texts[account_id] = text
        self.chronicles.setdefault(account_id, {})[posting_id] = occurred_at
        self.new_events.setdefault(account_id, {})[posting_id] = occurred_at

    def _keep_member(self, account_id: str, member: Member) -> None:
        self.members[account_id] = member
        self.member_texts.pop(account_id, None)
        self.changed_members.add(account_id)
        if member.next_due:
            self.note_expiry(date.fromordinal(member.next_due - 1).isoformat(), account_id)

    def take(self, budgets: Mapping[str, int]) -> None:
        """What rules took from their budgets, by id."""
        for rule_id, points in budgets.items():
            self.budget_moves[rule_id] = self.budget_moves.get(rule_id, 0) + points

    def _note_member(self, posting: Posting, account_id: str, member: Member) -> None:
        if posting.kind == "correction":
            self._keep_member(account_id, member)
        else:
            self.stand(account_id, member, posting.posting_id, posting.occurred_at)
        self.take(posting.budgets)
        if posting.sheet is not None:
            about = posting.reverses_posting or posting.posting_id
            self.sheets[about] = posting.sheet
            self.changed_sheets.add(about)

    def noted(self) -> dict[str, set[str]]:
        """The accounts that a tick after a date is to look at, by date."""
        if not self.new_spendings:
            return self.new_expiries
        dates = self.new_expiries.keys() | self.new_spendings.keys()
        return {date: self.new_expiries.get(date, set()) | self.new_spendings.get(date, set()) for date in sorted(dates)}

    def note_expiry(self, expiry: str, account_id: str) -> None:
        """An account may hold points now that expire on a date."""
        if expiry == NEVER:
            return
        noted = self.new_expiries.get(expiry)
        if noted is None:
            noted = self.new_expiries[expiry] = set()
        noted.add(account_id)

    def _move(self, posting: Posting) -> None:
        units = self.units(posting.account_id or "")
        for entries in posting.entries:
            if entries.spent_on is None and entries.kind != "expiry":
                self.note_expiry(entries.expires_on or NEVER, posting.account_id or "")
            if entries.spent_on is not None:
                self.new_spendings.setdefault(entries.spent_on, set()).add(posting.account_id or "")
            if entries.until is not None and entries.kind == "hold":
                self.note_expiry(entries.until, posting.account_id or "")
            move(units, entries)
        if posting.entries:
            self.changed_accounts.add(posting.account_id or "")

    def _note_returned(self, posting: Posting, sale_id: str) -> None:
        returned = self.returned.setdefault(sale_id, Returned())
        returned.day = max(returned.day, posting.day)
        for number, amount, quantity in zip(posting.line_no, posting.amount, posting.quantity_milli, strict=True):
            returned.amount[number] = returned.amount.get(number, 0) + amount
            returned.quantity_milli[number] = returned.quantity_milli.get(number, 0) + quantity
        for entries in posting.entries:
            if posting.sheet is not None and entries.rule_id is not None:
                continue  # The sheet says it.
            for number, points in zip(entries.reverses, entries.points, strict=bool(entries.reverses)):
                returned.points[number] = returned.points.get(number, 0) + abs(points)
        self.changed_returned.add(sale_id)


def move(units: Units, entries: Entries) -> None:
    """Adds entries to the sums of their holding; which sum, their kind says."""
    holding = units.get(entries.unit)
    if holding is None:
        holding = units[entries.unit] = Holding()
    points = sum(entries.points)
    if entries.spent_on is not None:
        holding.debits[entries.spent_on] = holding.debits.get(entries.spent_on, 0) - points
    elif entries.kind == "expiry":
        expiry = entries.expires_on or NEVER
        holding.expired[expiry] = holding.expired.get(expiry, 0) - points
    else:
        expiry = entries.expires_on or NEVER
        holding.credits[expiry] = holding.credits.get(expiry, 0) + points
    holding.balance += points
    if entries.hold_id is not None:
        note_hold(holding, entries)
    elif entries.until is not None:
        note_pending(holding, entries)
