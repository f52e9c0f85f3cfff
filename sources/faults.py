"""What goes wrong between tills and a broker, put into a clean stream on purpose and from a seed.

In: events in their proper order. Out: the same events with duplicates, returns, voids and late deliveries among them.
Nothing is lost or made invalid: a system that keeps its guarantees ends with the balances of the undisturbed order.

- A *duplicate* is the same `data` in a new envelope: another `id`, delivered again after the first.
- A *return* brings back some or all of a sale in one or two receipts, never more than was bought; some pay back money
  only, some are issued by another store, a tenth names no member.
- A *void* undoes a whole sale that has no return, so that its outcome does not depend on which of the two came first.
- *Late* sales arrive after events that happened after them; some returns arrive before their sale.

Events that are not sales pass in their place, unchanged. Another seed over the same sales makes other returns under the
same keys, which a system that saw the first ones has to call conflicts: replay a history with one seed.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Self
from zoneinfo import ZoneInfo

Event = dict[str, Any]
Line = dict[str, Any]

# How many later events an event may be held back for, at most, and its duplicate after it for as many again. A thousand
# spans several fetches of a partition, so the disorder is not undone within one batch. It bounds the memory as well:
# six events at most come of one, each held for two delays at most; at the default rates some dozens wait at a time.
DELAY_EVENTS_MAX = 1_000

RETURN_DAYS_MAX = 60  # Usual for a voluntary right of return; longer than a month, so it crosses month ends.
RETURN_HOURS = (9, 21)  # In the daytime, so that a clock change between the sale and the return moves no business date.
VOID_MINUTES_MAX = 15  # A till undoes a sale while the shopper still stands there.
SECOND_RETURN_SHARE = 0.2  # Of returned sales; two returns of one line are what cumulative reversal is about.
EARLY_RETURN_SHARE = 0.1  # Of returned sales: these are delivered after their return.
WHOLE_SHARE = 0.3  # Of returns: every line that is left; fully returned receipts must sum to zero.
FULL_LINE_SHARE = 0.6  # Of return lines: all that is left of the line.
MONEY_ONLY_SHARE = 0.1  # Of return lines: quantity 0, a price reduction after the sale.
NO_MEMBER_SHARE = 0.1  # Of returns: the shopper forgot the card, and the original sale must tell whose points go.
ELSEWHERE_SHARE = 0.1  # Of returns: handed in at the store that sold last before, where it is another one.


@dataclass(slots=True)
class Summary:
    """What was injected so far, in events unless the name says otherwise."""

    events_in: int = 0
    events_out: int = 0
    sales: int = 0
    duplicates: int = 0
    returns: int = 0
    returned_sales: int = 0
    return_lines: int = 0
    money_only_lines: int = 0
    returns_without_member: int = 0
    """Returns that leave out the member their sale had."""
    returns_elsewhere: int = 0
    returns_before_sale: int = 0
    late: int = 0
    """Sales held back because of the rate `late`; those held back for an early return are not among them."""
    voids: int = 0
    held_max: int = 0
    """The most events that waited at one time."""


def inject(
    events: Iterable[Event],
    seed: int,
    *,
    duplicates: float = 0.01,
    returns: float = 0.03,
    late: float = 0.01,
    voids: float = 0.002,
    time_zone: str | None = None,
    delay_events_max: int = DELAY_EVENTS_MAX,
) -> "Disturbed":
    """`events` with faults: an iterator, read lazily, whose `summary` counts what it has injected so far.

    `returns`, `late` and `voids` are shares of the sales, `duplicates` of all receipts, returns and voids included.
    The same events and arguments give the same result. A return's time has the offset of `time_zone`, or its sale's
    offset where that is not given. `delay_events_max` (at least 2) bounds each delay. Duplicates share `data` with the
    first: treat events as immutable. Raises ValueError where a share is not one, and zoneinfo.ZoneInfoNotFoundError.
    """
    if delay_events_max < 2:
        raise ValueError(f"an early return needs a delay of two events or more: {delay_events_max}")
    rates = {"duplicates": duplicates, "returns": returns, "late": late, "voids": voids}
    for name, share in rates.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share between 0 and 1: {share}")
    if returns + voids > 1:
        raise ValueError(f"a sale is returned or voided, not both: {returns} + {voids}")
    zone = ZoneInfo(time_zone) if time_zone else None
    return Disturbed(events, Random(seed), rates, zone, delay_events_max)


class Disturbed(Iterator[Event]):
    """The stream with its faults. Events wait in a heap, ordered by the input event at which they are due."""

    def __init__(
        self, events: Iterable[Event], random: Random, rates: dict[str, float], zone: ZoneInfo | None, delay_max: int
    ) -> None:
        self.summary = Summary()
        self._events = iter(events)
        self._random = random
        self._rates = rates
        self._zone = zone
        self._delay_max = delay_max
        self._heap: list[tuple[int, int, Event]] = []
        self._pushed = 0
        self._exhausted = False
        self._previous_sale: Event | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not (self._heap and (self._exhausted or self._heap[0][0] <= self.summary.events_in)):
            if self._exhausted:
                raise StopIteration
            try:
                event = next(self._events)
            except StopIteration:
                self._exhausted = True
                continue
            self.summary.events_in += 1
            self._take(event)
            self.summary.held_max = max(self.summary.held_max, len(self._heap))
        self.summary.events_out += 1
        return heapq.heappop(self._heap)[2]

    def _take(self, event: Event) -> None:
        """Schedules one input event and whatever comes of it."""
        now = self.summary.events_in
        if event["type"] != "receipt.sale":
            self._push(now, event)
            return
        self.summary.sales += 1
        due = now
        if self._random.random() < self._rates["late"]:
            self.summary.late += 1
            due += self._delay()
        fate = self._random.random()
        if fate < self._rates["returns"]:
            self._take_returned(event, due)
        else:
            self._push_receipt(due, event)
            if fate >= 1 - self._rates["voids"]:
                self.summary.voids += 1
                self._push_receipt(now + self._delay(), _void(event, self._random))
        self._previous_sale = event

    def _take_returned(self, sale: Event, due: int) -> None:
        """Schedules a sale and its returns; each return has its own delay, so a late sale may come after it."""
        now = self.summary.events_in
        returns = self._returns(sale)
        dues = [now + self._delay() for _ in returns]
        if returns and self._random.random() < EARLY_RETURN_SHARE:
            due = max(due, now + self._random.randint(2, self._delay_max))
            dues[0] = self._random.randint(now + 1, due - 1)
        self._push_receipt(due, sale)
        for return_due, event in zip(dues, returns, strict=True):
            self._push_receipt(return_due, event)
        self.summary.returned_sales += bool(returns)
        # Where both are due at once the sale goes first, because it was pushed first.
        self.summary.returns_before_sale += sum(return_due < due for return_due in dues)

    def _returns(self, sale: Event) -> list[Event]:
        """One or two returns of `sale`, none where its lines cost nothing and count nothing."""
        left = {line["line_no"]: (line["quantity_milli"], line["amount"]) for line in sale["data"]["lines"]}
        returns: list[Event] = []
        days = 1
        for number in range(1, 3 if self._random.random() < SECOND_RETURN_SHARE else 2):
            lines = _return_lines(left, self._random)
            if lines:
                days = self._random.randint(days, RETURN_DAYS_MAX)
                returns.append(self._return(sale, number, days, lines))
        return returns

    def _return(self, sale: Event, number: int, days: int, lines: list[Line]) -> Event:
        """The event of one return, issued `days` after the sale at the same store, or at the previous sale's."""
        bought, random, summary = sale["data"], self._random, self.summary
        store, source, original = bought["store_id"], sale["source"], {"original_receipt_id": bought["receipt_id"]}
        receipt_id, event_id = f"{bought['receipt_id']}/R{number}", f"{sale['id']}-return-{number}"
        other = self._previous_sale
        if random.random() < ELSEWHERE_SHARE and other and other["source"] != source:
            summary.returns_elsewhere += 1
            # Both keys are unique within their source only, so those of the other store have to name the first.
            receipt_id, event_id = f"{source}/{receipt_id}", f"{source}/{event_id}"
            original["original_source"] = source
            store, source = other["data"]["store_id"], other["source"]
        issued_at = _days_later(bought["issued_at"], days, self._zone, random)
        data: Event = {
            "receipt_id": receipt_id,
            "store_id": store,
            "register_id": bought["register_id"],
            "business_date": issued_at[:10],
            "issued_at": issued_at,
            "currency": bought["currency"],
        }
        if bought.get("member") is not None:
            if random.random() < NO_MEMBER_SHARE:
                summary.returns_without_member += 1
            else:
                data["member"] = bought["member"]
        data.update(original, lines=lines)
        summary.returns += 1
        summary.return_lines += len(lines)
        summary.money_only_lines += sum(line["quantity_milli"] == 0 for line in lines)
        return _envelope(event_id, source, "receipt.return", issued_at, data)

    def _push_receipt(self, due: int, event: Event) -> None:
        """Schedules a receipt event and, sometimes, its duplicate: at once, as a retry is, or later."""
        self._push(due, event)
        if self._random.random() < self._rates["duplicates"]:
            self.summary.duplicates += 1
            again = due if self._random.random() < 0.5 else due + self._delay()
            self._push(again, {**event, "id": f"{event['id']}-again"})

    def _push(self, due: int, event: Event) -> None:
        """The counter keeps events that are due at once in the order of their pushing."""
        self._pushed += 1
        heapq.heappush(self._heap, (due, self._pushed, event))

    def _delay(self) -> int:
        return self._random.randint(1, self._delay_max)


def _return_lines(left: dict[int, tuple[int, int]], random: Random) -> list[Line]:
    """The lines of one return, taken out of `left`, which maps a line to its remaining (quantity_milli, amount)."""
    candidates = [line_no for line_no, remaining in left.items() if any(remaining)]
    if not candidates:
        return []
    count = len(candidates) if random.random() < WHOLE_SHARE else random.randint(1, len(candidates))
    lines = []
    for line_no, original_line_no in enumerate(sorted(random.sample(candidates, count)), 1):
        quantity_left, amount_left = left[original_line_no]
        quantity_milli, amount = _part(quantity_left, amount_left, random)
        left[original_line_no] = (quantity_left - quantity_milli, amount_left - amount)
        line = {"line_no": line_no, "original_line_no": original_line_no}
        lines.append({**line, "quantity_milli": quantity_milli, "amount": amount})
    return lines


def _part(quantity_milli: int, amount: int, random: Random) -> tuple[int, int]:
    """How much of what is left of a line comes back: all, some money only, whole pieces, or a part of a weight."""
    if amount > 0 and random.random() < MONEY_ONLY_SHARE:
        return 0, random.randint(1, amount)
    if random.random() < FULL_LINE_SHARE or quantity_milli <= 1:
        return quantity_milli, amount
    if quantity_milli % 1000 == 0 and quantity_milli > 1000:
        part_milli = 1000 * random.randint(1, quantity_milli // 1000 - 1)
    else:
        part_milli = random.randint(1, quantity_milli - 1)
    return part_milli, amount * part_milli // quantity_milli


def _void(sale: Event, random: Random) -> Event:
    minutes = timedelta(minutes=random.randint(1, VOID_MINUTES_MAX))
    time = (datetime.fromisoformat(sale["data"]["issued_at"]) + minutes).isoformat()
    data = {"receipt_id": sale["data"]["receipt_id"]}
    return _envelope(f"{sale['id']}-void", sale["source"], "receipt.void", time, data)


def _envelope(event_id: str, source: str, type_: str, time: str, data: Event) -> Event:
    return {"specversion": "1.0", "id": event_id, "source": source, "type": type_, "time": time, "data": data}


def _days_later(issued_at: str, days: int, zone: ZoneInfo | None, random: Random) -> str:
    """A time of day, `days` local days after `issued_at`."""
    sold = datetime.fromisoformat(issued_at)
    local = sold.astimezone(zone) if zone else sold
    second_of_day = random.randrange(RETURN_HOURS[0] * 3600, RETURN_HOURS[1] * 3600)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    # Wall-clock arithmetic: with a zone, the offset is looked up anew for the day that results.
    return (midnight + timedelta(days=days, seconds=second_of_day)).isoformat()
