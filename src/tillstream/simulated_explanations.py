"""`simulate --explain`: the explanations of everything that a simulation posted, or of one receipt."""

from collections.abc import Iterator

from msgspec import structs

from tillstream.errors import CheckFailed
from tillstream.kernels.chronicle import UNDOING, Chronicle, place
from tillstream.kernels.keys import occurred
from tillstream.schemas.events import ROUTED_BYTES_MAX, ReturnEvent, decode
from tillstream.schemas.explanations import Explanation
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.simulate import Deliveries, Simulation


def explanations_of(simulation: Simulation, receipt: str | None = None, line_no: int | None = None) -> list[Explanation]:
    """In the order in which things happened, account by account, anonymous receipts first.

    Raises:
        CheckFailed: no event of this receipt was accepted, or it has no such line.
    """
    deliveries = simulation.deliveries or Deliveries()
    postings = [record for raw in simulation.snapshot.postings.values() if isinstance(record := decode_record(raw), Posting)]
    found: list[Explanation] = []
    by_account: dict[str, list[Posting]] = {}
    for posting in postings:
        by_account.setdefault(posting.account_id or "", []).append(posting)
    for _, own in sorted(by_account.items()):
        if receipt is not None and all(posting.receipt_id != receipt for posting in own):
            continue
        chronicle = Chronicle(simulation.poster, own, simulation.snapshot.as_of)
        wanted = [posting for posting in own if receipt is None or posting.receipt_id == receipt]
        found += [with_deliveries(each, key, deliveries) for key, each in receipts(chronicle, wanted, deliveries)]
        found += chronicle.others() if receipt is None else ()
    found += [each for each in waiting(simulation) if receipt in {None, each.receipt_id}]
    if receipt is not None:
        check_found(found, receipt, line_no, deliveries)
    return found


def receipts(chronicle: Chronicle, postings: list[Posting], deliveries: Deliveries) -> Iterator[tuple[str, Explanation]]:
    """Sales, returns and voids of one account, with their natural keys."""
    for posting in sorted(postings, key=place):
        if posting.kind == "sale":
            yield posting.posting_id, chronicle.sale(posting.posting_id, deliveries.sales[posting.posting_id])
        elif posting.kind in UNDOING:
            yield posting.posting_id, chronicle.undo(posting.posting_id)


def with_deliveries(explanation: Explanation, key: str, deliveries: Deliveries) -> Explanation:
    """Adds how often the receipt came besides."""
    again, conflicts = deliveries.duplicates[key], len(deliveries.refused.get(key, ()))
    notes = [explanation.note] if explanation.note else []
    notes += [f"it came {times(again)} more and counts once"] if again else []
    notes += [f"it came {times(conflicts)} with other data, which was refused"] if conflicts else []
    return structs.replace(explanation, note="; ".join(notes))


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def waiting(simulation: Simulation) -> Iterator[Explanation]:
    """Returns and voids whose sale has not come."""
    timetable = simulation.poster.timetable
    head = timetable.versions[0].program.program
    for events in simulation.snapshot.waiting.values():
        for raw in events.values():
            event = decode(raw, ROUTED_BYTES_MAX)
            sale = event.data.original_receipt_id if isinstance(event, ReturnEvent) else event.data.receipt_id  # type: ignore[union-attr]
            moment = occurred(event)  # type: ignore[arg-type]
            yield Explanation(
                "waiting", event.source, event.id, event.data.receipt_id, None, moment.isoformat(),  # type: ignore[union-attr]
                moment.astimezone(timetable.zone).date().isoformat(), head.id, None, head.currency,
                f"it waits for its sale {sale}, which has not come", sale,
            )  # fmt: skip


def check_found(found: list[Explanation], receipt: str, line_no: int | None, deliveries: Deliveries) -> None:
    if not found:
        for refused in deliveries.refused.values():
            for event, problem in refused:
                if getattr(event.data, "receipt_id", None) == receipt:
                    raise CheckFailed(f"receipt {receipt!r} was refused: {problem}")
        raise CheckFailed(f"no receipt {receipt!r} is among these events")
    lines = {line.line_no for sale in deliveries.sales.values() if sale.receipt_id == receipt for line in sale.lines}
    if line_no is not None and lines and line_no not in lines:
        raise CheckFailed(f"receipt {receipt!r} has no line {line_no}")
