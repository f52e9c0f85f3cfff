"""Vouchers into the topic `vouchers`, and how those of a series stand: `tillstream vouchers generate`, `revoke` and `status`.

A batch is generated in two steps. First the file of its codes is written whole, under another name until it is: it is the only place where
they stand. Then their hashes go to Kafka, a block a record. Whoever runs the command again, after a crash in either, finds the file, and
the same blocks go again, which issues nothing twice.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from tillstream.auditing import note
from tillstream.config import Config
from tillstream.errors import UsageError
from tillstream.kernels.voucher_codes import WrongCode, digest_of, parsed
from tillstream.kernels.vouchers import STANDINGS, Batch, batch_name, standing_of
from tillstream.schemas.events import Malformed
from tillstream.schemas.vouchers import (
    BLOCK_CODES_MAX,
    VOUCHERS_SOURCE,
    Issued,
    IssuedEvent,
    Revoked,
    RevokedEvent,
    decode_voucher,
    encode_voucher,
)
from tillstream.servers import check_identity_key, check_kafka, failures_named, redis_of
from tillstream.sinks.vouchers import VoucherStore
from tillstream.streams.appending import append
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS
from tillstream.tls import kafka_settings
from tillstream.voucher_file import Order, Row, read_rows, write_codes

APPENDED_BLOCKS = 100
"""Blocks in one append: some four megabytes, and how often progress is told."""

Progress = Callable[[str, int], None]
"""Is told the step and how many codes are through it."""


def generate(config: Config, order: Order, path: Path, progress: Progress) -> dict[str, Any]:
    """Writes the codes of a batch to `path` and issues them; the object that `vouchers generate --json` prints.

    Raises:
        UsageError: the file is there and is not this batch; the batch was issued with other codes; or a server is away.
    """
    check_identity_key(config)
    check_kafka(config)
    key, moment = config.identity_key.encode(), datetime.now(UTC)
    written = not path.exists()
    if written:
        if known_fingerprint(config, order) is not None:
            raise issued_otherwise(order)
        write_codes(order, path, progress)
    fingerprint, codes = fingerprint_in(order, path, key, progress)
    if known_fingerprint(config, order) not in {None, fingerprint}:
        raise issued_otherwise(order)
    with failures_named(config):
        blocks = issuing(order, read_rows(order, path), key, fingerprint, codes, moment)
        issued = 0
        while some := list(islice(blocks, APPENDED_BLOCKS)):
            append(kafka_settings(config), VOUCHERS, [(batch_name(order.series, order.batch), checked(event)) for event in some])
            issued += sum(len(event.data.digests) for event in some)
            progress("issued", issued)
        note(config, "vouchers generate", [batch_name(order.series, order.batch)], moment)
    # Two runs at once under one name: the topic's order says whose codes count. An embedded broker may not show its latest records yet.
    if known_fingerprint(config, order) not in {None, fingerprint}:
        raise issued_otherwise(order)
    return {"series": order.series, "batch": order.batch, "codes": codes, "file": str(path), "written": written}


def checked(event: IssuedEvent) -> bytes:
    """The record's bytes, which read back: what a worker would pass over is never sent.

    Raises:
        UsageError: they do not.
    """
    raw = encode_voucher(event)
    try:
        decode_voucher(raw)
    except Malformed as problem:
        raise UsageError(f"{problem.path}: {problem.message}") from None
    return raw


def known_fingerprint(config: Config, order: Order) -> str | None:
    """What `fingerprint_of` says of an order's batch."""
    return asyncio.run(fingerprint_of(config, order.series, order.batch))


def issued_otherwise(order: Order) -> UsageError:
    return UsageError(
        f"batch {order.batch} of series {order.series} is issued already, with other codes; give another --batch, or the --out of its file "
        "to go on after a crash (to do without the lost file: tillstream vouchers revoke)"
    )


def fingerprint_in(order: Order, path: Path, key: bytes, progress: Progress) -> tuple[str, int]:
    """What tells the codes of a file from all others, and how many they are."""
    hashed, codes = blake2b(key=key, digest_size=16), 0
    for row in read_rows(order, path):
        hashed.update(digest(row, key).encode("ascii"))
        codes += 1
        if codes % 100_000 == 0:
            progress("read", codes)
    if codes != order.codes:
        raise UsageError(f"{path}: has {codes} codes, this batch is to have {order.codes}; give another --out")
    return hashed.hexdigest(), codes


def digest(row: Row, key: bytes) -> str:
    return digest_of(row.code.replace("-", ""), key)


def issuing(order: Order, rows: Iterator[Row], key: bytes, fingerprint: str, codes: int, moment: datetime) -> Iterator[IssuedEvent]:
    """The events by which a batch is issued."""
    block = 0
    while some := list(islice(rows, BLOCK_CODES_MAX)):
        data = Issued(
            series=order.series, batch=order.batch, worth=order.worth, valid_from=order.valid_from, valid_until=order.valid_until,
            codes=codes, fingerprint=fingerprint, block=block, digests=[digest(row, key) for row in some],
            members=[row.member_id for row in some] if some[0].member_id else [],
        )  # fmt: skip
        yield IssuedEvent(id=f"{order.series}/{order.batch}/{fingerprint}/{block}", source=VOUCHERS_SOURCE, time=moment, data=data)
        block += 1


async def fingerprint_of(config: Config, series: str, batch: str) -> str | None:
    """The fingerprint under which a batch is issued, by Redis, or else the first in what Redis has yet to take; None: it is new."""
    async with redis_of(config) as client:
        with failures_named(config):
            store = VoucherStore(client)
            found = (await store.load([], [batch_name(series, batch)])).batches.get(batch_name(series, batch))
            if found is not None:
                return found.fingerprint
            offset = (await store.view()).offset
    with failures_named(config):
        for message in read_topic(kafka_settings(config), VOUCHERS, 0, offset + 1):
            with suppress(Malformed):
                event = decode_voucher(message.value() or b"")
                if isinstance(event, IssuedEvent) and (event.data.series, event.data.batch) == (series, batch):
                    return event.data.fingerprint
    return None


async def status(config: Config, series: str) -> dict[str, Any]:
    """How the codes of a series stand now: of each standing how many, of all batches and of each.

    Raises:
        UsageError: there is no such series, Redis is being filled, or a server is away.
    """
    moment = datetime.now(UTC)
    async with redis_of(config) as client:
        with failures_named(config):
            store = VoucherStore(client)
            if not (await store.view()).whole:
                raise UsageError("Redis does not have all vouchers; a worker fills it: start one, or wait for it")
            batches = {name: batch for name, batch in (await store.batches()).items() if batch.series == series}
            counts: dict[str, Counter[str]] = {name: Counter() for name in batches}
            async for voucher in store.codes():
                if (batch := batches.get(voucher.batch)) is not None:
                    counts[voucher.batch][standing_of(voucher, batch, moment)] += 1
    if not batches:
        raise UsageError(f"there is no series {series}; names are told as they were given to --series")
    rows = [row_of(batch, counts[name]) for name, batch in sorted(batches.items())]
    return {"series": series, **summed(sum(counts.values(), Counter())), "batches": rows}


def row_of(batch: Batch, counts: Counter[str]) -> dict[str, Any]:
    """What is shown of a batch."""
    return {"batch": batch.batch, "codes": batch.codes, **summed(counts), "valid_until": batch.valid_until.isoformat()}


def summed(counts: Counter[str]) -> dict[str, int]:
    """`issued`, and by standing; each code is in exactly one."""
    return {"issued": counts.total(), **{standing: counts[standing] for standing in STANDINGS}}


def revoke(config: Config, series: str, batch: str | None, code: str | None, reason: str) -> dict[str, Any]:
    """Takes what is not redeemed of a series, a batch or one code out of use; what `vouchers revoke --json` prints.

    Raises:
        UsageError: there is no such series, batch or code, or a server is away.
    """
    check_identity_key(config)
    check_kafka(config)
    moment = datetime.now(UTC)
    try:
        named = None if code is None else digest_of(parsed(code), config.identity_key.encode())
    except WrongCode as error:
        raise UsageError(f"--code: {error}") from None
    asyncio.run(check_there(config, series, batch, named))
    data = Revoked(series=series, batch=batch, digest=named, reason=reason)
    event = RevokedEvent(id=f"{series}/{batch}/{named}/{moment.isoformat()}", source=VOUCHERS_SOURCE, time=moment, data=data)
    about = named or (series if batch is None else batch_name(series, batch))
    with failures_named(config):
        append(kafka_settings(config), VOUCHERS, [(named or series, encode_voucher(event))])
        note(config, "vouchers revoke", [about], moment)
    return {"series": series, "batch": batch, "revoked": about}


async def check_there(config: Config, series: str, batch: str | None, digest: str | None) -> None:
    """Raises UsageError where Redis shows no such batch, or no such code in it."""
    async with redis_of(config) as client:
        with failures_named(config):
            store = VoucherStore(client)
            named = [name for name, known in (await store.batches()).items() if known.series == series and batch in {None, known.batch}]
            shown = None if digest is None else await store.shown(digest)
    if not named:
        told = series if batch is None else batch_name(series, batch)
        raise UsageError(f"nothing is issued as {told}; what was issued just now is there when a worker has taken it")
    if shown is not None and (shown.voucher is None or shown.voucher.batch not in named):
        raise UsageError(f"--code: is none of {', '.join(named)}")
