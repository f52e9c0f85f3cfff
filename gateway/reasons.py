"""Why a ledger entry is there, in one sentence for its member; `tillstream explain` tells the arithmetic to the last point."""

from tillstream.schemas.program_words import money
from tillstream.sinks.statement import Row

BY_KIND = {
    "hold": "set aside",
    "release": "usable again",
    "capture": "paid, out of points that were set aside",
    "redemption": "paid with points",
    "expiry": "expired",
    "adjustment": "corrected by hand",
    "transfer": "moved within the household",
}
"""Of entries that no rule gave."""


def reason_of(row: Row, currency: str) -> str:
    """The reason of one entry."""
    if row.kind == "accrual":
        return accrual(row, currency)
    if row.kind == "reversal":
        return reversal(row)
    if row.rule_id is not None:
        return f"rule {row.rule_id}: {'pending' if row.kind == 'hold' else BY_KIND[row.kind]}"
    return BY_KIND[row.kind] + (", beyond the balance" if row.uncovered else "")


def accrual(row: Row, currency: str) -> str:
    """What the rule saw and gave; of a receipt, the share of the line."""
    if row.posting_kind == "correction":
        return f"rule {row.rule_id}: more, since an event came late"
    if row.posting_kind != "sale" or row.basis is None:
        return f"rule {row.rule_id}"
    share = "" if row.award == row.points else f", {row.points} of them for this line"
    return f"rule {row.rule_id}: {row.award} for {money(row.basis)} {currency}{share}"


def reversal(row: Row) -> str:
    """What came back."""
    rule = "points that had paid" if row.rule_id is None else f"rule {row.rule_id}"
    if row.posting_kind == "correction":
        return f"{rule}: less, since an event came late"
    done = "given back" if row.points > 0 else "taken back"
    return f"{rule}: {done}, {'the sale was undone' if row.posting_kind == 'void' else 'goods were returned'}"
