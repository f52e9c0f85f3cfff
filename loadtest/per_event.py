"""What the peers do with one receipt: the same points, by the very same kernel, one event at a time.

In: the bytes of one record. Out: its ledger record, and one Redis pipeline's worth of commands. Decoding is orjson's, as the peers' own
documentation has it; the kernels want typed events, hence `convert`.

The peers are let off lightly, to their advantage: one round trip where reading, judging and writing takes two; counters instead of a state
that must be read before it is written; no fence against a second writer; no transaction around the pipeline.

    peer:postings   hash   natural key -> ledger record; HSETNX tells a repeat
    peer:balances   hash   account -> points
    peer:lots       hash   account|last day of use -> points
"""

from typing import Any, NamedTuple

import msgspec
import orjson

from loadtest.load import program
from tillstream.kernels.holdings import Units
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import SaleEvent

POSTINGS, BALANCES, LOTS = "peer:postings", "peer:balances", "peer:lots"


class Judged(NamedTuple):
    """One receipt's result."""

    account: str
    key: str
    record: bytes
    units: Units


class PerEvent:
    """Judges one receipt after another."""

    def __init__(self) -> None:
        self.poster = Poster(program())

    def judge(self, raw: bytes, offset: int) -> Judged:
        """Decodes, judges, encodes."""
        event = msgspec.convert(orjson.loads(raw), SaleEvent)
        account = str(event.accountid)
        snapshot = Snapshot()
        self.poster.post([Routed(event, account, offset, raw)], snapshot)
        key, record = next(iter(snapshot.postings.items()))
        return Judged(account, key, record, snapshot.units(account))


def fill(pipeline: Any, judged: Judged) -> None:
    """Reads and writes what the receipt needs; the answers begin with 0 for a repeat."""
    account = judged.account
    pipeline.hsetnx(POSTINGS, judged.key, judged.record)
    for holding in judged.units.values():
        pipeline.hincrby(BALANCES, account, holding.balance)
        for expiry, points in holding.credits.items():
            pipeline.hincrby(LOTS, f"{account}|{expiry}", points)


class RepeatedError(Exception):
    """A receipt came twice: the measurement counts nothing, since the peers do not undo what they added."""


def check(answers: list[Any]) -> None:
    """Refuses repeats."""
    if not answers[0]:
        raise RepeatedError("a receipt was delivered twice")
