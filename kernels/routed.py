"""An event on its way to its account, and what became of it there."""

from collections.abc import Sequence
from operator import attrgetter
from typing import ClassVar, Literal, NamedTuple

from tillstream.kernels.keys import key_of, sale_key_of
from tillstream.kernels.plain import PlainSale
from tillstream.schemas.events import AccountEvent, Malformed, ReturnEvent, TickEvent, VoidEvent

LedgerEvent = AccountEvent | TickEvent

EVENTS_ABOUT_SALES = (ReturnEvent, VoidEvent)
"""Events that are about an earlier receipt; a tuple, since a union would be made anew at every look."""

class Routed:
    """An event on its way to its account: `account_id` None is an anonymous receipt, `offset` its place, `raw` its bytes.

    `key` is its natural key, `sale_key` that of the sale it is about; both are empty for a tick.
    """

    __slots__ = ("account_id", "event", "key", "offset", "raw", "sale_key")

    batch: ClassVar[None] = None
    """A plain sale names those that were scanned with it."""

    def __init__(self, event: LedgerEvent, account_id: str | None, offset: int, raw: bytes) -> None:
        self.event = event
        self.account_id = account_id
        self.offset = offset
        self.raw = raw
        self.key = "" if isinstance(event, TickEvent) else key_of(event)
        self.sale_key = sale_key_of(event) if isinstance(event, EVENTS_ABOUT_SALES) else self.key

    @property
    def reply_to(self) -> str | None:
        """Who listens for a reply; None: nobody asked."""
        return self.event.replyto


class Follow(NamedTuple):
    """An event that follows from another one, and the account that it goes to."""

    account_id: str
    raw: bytes


AnyRouted = Routed | PlainSale
"""A plain sale says the same of itself; only its `event` is decoded anew for whoever asks."""


SCANNED_WITH = attrgetter("batch")
"""The plain sales that an event was scanned with; None: it was decoded."""


def decoded(sale: PlainSale) -> Routed:
    """A scanned sale for those who need to see all of it."""
    return Routed(sale.event, sale.account_id, sale.offset, sale.raw)


class Outcome(NamedTuple):
    """What became of one event.

    `records` go to the ledger, `problem` says why it was refused, `waited` that it came before its sale; `follow` are events for other
    accounts, to be routed next.
    """

    routed: AnyRouted
    status: Literal["accepted", "duplicate", "waiting", "refused"]
    records: Sequence[bytes] = ()
    problem: Malformed | None = None
    waited: bool = False
    follow: Sequence[Follow] = ()
