"""What of receipts answered decisions on offers: needed when it comes back, since a return names lines and no goods.

    {d7}:bought:<receipt>    hash    decision id -> lines of the receipt that were the offer's goods, and what each cost; a quarter

Delivery: at least once; the receipt's event key and the decision are the idempotency key. A view of `offer.bought` on the topic `outcomes`
(streams/offers_restore.py).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tillstream.schemas.program_offer_mistakes import KEPT_DAYS_MAX
from tillstream.sinks.redis import Asks, Redis, tag_of

KEPT_S = KEPT_DAYS_MAX * 86_400
"""As long as the decision itself is kept."""

BOUGHT_KEY = "{d7}:bought:<receipt>"
"""As the documents call the key."""


class Bought(NamedTuple):
    """What answered a decision: lines of a receipt (by its event's key) and what each cost, minor units."""

    receipt: str
    decision_id: str
    offer_id: str
    lines: dict[int, int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bought).decode


class BoughtStore(Asks):
    """Notes what may come back, and finds it."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def note(self, found: Iterable[Bought]) -> None:
        """Notes what answered decisions, in one round trip."""
        commands: list[tuple[Any, ...]] = []
        for one in found:
            key = bought_key(one.receipt)
            commands += [("HSET", key, one.decision_id, _encode(one)), ("EXPIRE", key, KEPT_S)]
        await self._all(commands)

    async def of(self, receipts: Iterable[str]) -> dict[str, list[Bought]]:
        """What of some receipts answered decisions, by receipt, in one round trip."""
        names = list(dict.fromkeys(receipts))
        found = await self._all([("HVALS", bought_key(name)) for name in names])
        return {name: [_decode(raw) for raw in held] for name, held in zip(names, found, strict=True)}


def bought_key(receipt: str) -> str:
    return f"{tag_of('d', receipt)}:bought:{receipt}"
