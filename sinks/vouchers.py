"""Vouchers in Redis: a view of the topic `vouchers`, read by gateways, written by the one worker that has the topic's partition.

    {vouchers}:meta      hash   offset: the last one applied; whole: there where the topic was read to its end since Redis was empty
    {vouchers}:codes     hash   a code's keyed hash -> what it is, JSON (kernels/vouchers.py, `Voucher`)
    {vouchers}:batches   hash   series/batch -> its terms, JSON (`Batch`)

Delivery: exactly once in effect. `apply` is one function call, fenced on the offset at which the view stood when the codes were read; the
idempotency key is that offset.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from tillstream.kernels.vouchers import Batch, Voucher, Vouchers, is_swept
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import Fenced, present

META, CODES, BATCHES = VOUCHER_KEYS = ("{vouchers}:meta", "{vouchers}:codes", "{vouchers}:batches")
"""One hash tag for the installation, as the topic has one partition."""

SCAN_COUNT = 1_000

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_voucher = msgspec.json.Decoder(Voucher)
_batch = msgspec.json.Decoder(Batch)


class View(NamedTuple):
    """How far the view is: the last offset applied (-1: none), and whether all before it is there."""

    offset: int
    whole: bool


class Shown(NamedTuple):
    """One code as the view has it; None: it is not there."""

    voucher: Voucher | None
    batch: Batch | None
    view: View


class VoucherStore:
    """Reads and writes the view."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def view(self) -> View:
        """How far the view is."""
        return read_view(await self.client.hmget(META, "offset", "whole"))

    async def shown(self, digest: str) -> Shown:
        """One code, its batch, and how far the view is; the same two round trips whether it is there or not."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hmget(META, "offset", "whole")
        pipeline.hget(CODES, digest)
        meta, raw = await pipeline.execute()
        voucher = None if raw is None else read_voucher(raw)
        terms = await self.client.hget(BATCHES, "" if voucher is None else voucher.batch)
        return Shown(voucher, None if terms is None else _batch.decode(terms), read_view(meta))

    async def load(self, digests: Iterable[str], batches: Iterable[str]) -> Vouchers:
        """Some codes with their batches, and further batches by name."""
        wanted = list(dict.fromkeys(digests))
        values = await self.client.hmget(CODES, wanted) if wanted else []
        codes = {digest: read_voucher(raw) for digest, raw in present(wanted, values)}
        names = list(dict.fromkeys([*batches, *(voucher.batch for voucher in codes.values())]))
        terms = await self.client.hmget(BATCHES, names) if names else []
        return Vouchers(codes, {name: _batch.decode(raw) for name, raw in present(names, terms)})

    async def batches(self) -> dict[str, Batch]:
        """All batches by name."""
        return {name.decode(): _batch.decode(raw) for name, raw in (await self.client.hgetall(BATCHES)).items()}

    async def codes(self) -> AsyncIterator[Voucher]:
        """All codes; one that changes meanwhile is given as it was before or after."""
        async for _, voucher in self.all_codes():
            yield voucher

    async def all_codes(self) -> AsyncIterator[tuple[str, Voucher]]:
        """All codes by their hashes, as `codes` gives them."""
        seen: Any
        async for seen in self.client.hscan_iter(CODES, count=SCAN_COUNT):
            yield seen[0].decode(), read_voucher(seen[1])

    async def sweep(self, batches: Mapping[str, Batch], now: datetime) -> int:
        """Deletes the codes of those of `batches` that nobody can ask about any more, a thousand at a time; how many.

        It needs no fence: nothing that such a code could still be told changes anything, and the topic keeps its events.
        """
        due = {name for name, batch in batches.items() if is_swept(batch, now)}
        swept: list[str] = []
        async for digest, voucher in self.all_codes():
            if voucher.batch in due:
                swept.append(digest)
        for first in range(0, len(swept), SCAN_COUNT):
            await self.client.hdel(CODES, *swept[first : first + SCAN_COUNT])
        return len(swept)

    async def apply(self, vouchers: Vouchers, before: int, after: int) -> None:
        """Writes what changed in `vouchers` and moves the view from offset `before` to `after`, both or neither.

        Raises:
            Fenced: the view does not stand at `before`; nothing was changed.
        """
        codes = texts((digest, vouchers.codes[digest]) for digest in sorted(vouchers.changed_codes))
        batches = texts((name, vouchers.batches[name]) for name in sorted(vouchers.changed_batches))
        packed = _pack([codes, batches])
        done, offset = await self.client.fcall("tillstream_apply_vouchers", len(VOUCHER_KEYS), *VOUCHER_KEYS, before, after, packed)
        if not done:
            raise Fenced(0, offset)

    async def note_whole(self, offset: int) -> None:
        """Notes that all up to `offset`, the end of the topic, is there; nothing where the view stands elsewhere meanwhile."""
        await self.client.fcall("tillstream_whole_vouchers", 1, META, offset)


def read_voucher(raw: bytes) -> Voucher:
    """What Redis holds of a code."""
    return _voucher.decode(raw)


def read_view(meta: Sequence[bytes | None]) -> View:
    offset, whole = meta
    return View(int(offset or -1), whole is not None)


def texts(items: Iterable[tuple[str, Any]]) -> list[str]:
    """Names and JSON, one after the other; as text, since Redis's Lua reads no `bin`."""
    return list(chain.from_iterable((name, _encode(item).decode()) for name, item in items))
