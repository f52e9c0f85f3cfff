"""What `verify` compares of vouchers: every code in Redis with what the events of the topic `vouchers` make of it, in their order.

Redis may be written to meanwhile, so the codes are compared at an offset between two looks at how far the view is, (1) and (3); those that
an event between the two names are left out, and so are codes that were swept (sinks/vouchers.py). All codes are in memory at once, some
300 bytes each.
"""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tillstream.kernels.vouchers import Voucher, Vouchers, is_swept
from tillstream.schemas.events import Malformed
from tillstream.schemas.vouchers import decode_voucher
from tillstream.sinks.redis import Redis
from tillstream.sinks.vouchers import VoucherStore
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS
from tillstream.streams.vouchers import digests_in
from tillstream.verify_groups import Finding


class VouchersFound(NamedTuple):
    """How many codes Redis has, None: it is being filled; and what does not hold."""

    codes: int | None
    findings: list[Finding]


class Told(NamedTuple):
    """What the topic says up to an offset, and the codes that later events name."""

    vouchers: Vouchers
    touched: frozenset[str]


async def verify_vouchers(kafka: Mapping[str, Any], client: Redis) -> VouchersFound:
    """Compares the topic with Redis."""
    store = VoucherStore(client)
    before = await store.view()  # (1)
    if not before.whole:
        return VouchersFound(None, [])
    held = {digest: voucher async for digest, voucher in store.all_codes()}  # (2)
    after = await store.view()  # (3)
    told = await asyncio.to_thread(read_told, kafka, before.offset, after.offset)
    return VouchersFound(len(held), list(differences(told, held, datetime.now(UTC))))


def read_told(kafka: Mapping[str, Any], until: int, later: int) -> Told:
    """The topic up to offset `until`, and what is named from there up to `later`."""
    vouchers, touched = Vouchers({}, {}), set[str]()
    for message in read_topic(kafka, VOUCHERS, 0, 0):
        try:
            event = decode_voucher(message.value() or b"")
        except Malformed:
            continue
        if (message.offset() or 0) <= until:
            vouchers.take(event)
        elif (message.offset() or 0) <= later:
            touched.update(digests_in([event]))
    return Told(vouchers, frozenset(touched))


def differences(told: Told, held: Mapping[str, Voucher], now: datetime) -> Iterator[Finding]:
    """Codes that are not what the topic makes of them; named by the beginning of their hash."""
    batches = told.vouchers.batches
    for digest in sorted((told.vouchers.codes.keys() | held.keys()) - told.touched):
        expected, found = told.vouchers.codes.get(digest), held.get(digest)
        if expected != found and not (found is None and expected is not None and is_swept(batches[expected.batch], now)):
            name = f"{digest[:12]} of {(expected or found or Voucher('')).batch}"
            yield Finding("a voucher in Redis", name, int(expected is not None), int(found is not None))
