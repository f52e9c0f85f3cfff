"""transactions -> ledger -> Redis: events become points (DESIGN.md §3). The ledger is the write-ahead log; per batch of one partition:

(1) read the state that the batch names, in one round trip; where points are spent or expire, what else their member has (groups.py); an
    account whose state lacks what a version asks for that was published since is counted again (recounting.py);
(2) judge it with the kernels, on a lease of the rules' budgets (sinks/budgets.py);
(3) append the ledger records, dead letters, what follows on other accounts, and the consumed offset, in one Kafka transaction where the
    broker has them;
(4) apply the changes to Redis in one function call, fenced on the offset at which (1) found the partition; tell provisional accounts that
    are new whether somebody enrolled their identity meanwhile (takeovers.py); reply to the gateways whose events asked for it (replies.py);
(5) acknowledge.

A crash before (3) leaves nothing; between (3) and (4) the recovery hook applies the ledger's tail (recovery.py); after (4) the batch is
known and skipped. Two workers that both believe they own the partition: (3) fences the older one, (4) refuses whoever comes second.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from time import time
from typing import NamedTuple

from confluent_kafka import Message
from msgspec import UNSET

from tillstream.kernels.lapsing import others_due, tick_posting
from tillstream.kernels.plain import Scanner
from tillstream.kernels.posters import Posters
from tillstream.kernels.posting import record_in
from tillstream.kernels.routed import AnyRouted, Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import ROUTED_BYTES_MAX, AccountEvent, Malformed, ReceiptEvent, TickEvent, decode
from tillstream.sinks.budgets import BudgetStore
from tillstream.sinks.redis import RedisEmptied
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import TICK_ACCOUNTS_MAX, Loaded, Standing, StateStore
from tillstream.sinks.writer import Consumed, Record, Writer
from tillstream.streams.groups import Groups
from tillstream.streams.identify import as_sent, deadletter, with_account
from tillstream.streams.recounting import count_again
from tillstream.streams.replies import replies_of
from tillstream.streams.stats import Stats
from tillstream.streams.takeovers import first_enrolments, strangers, takeover
from tillstream.streams.topics import LEDGER, RECALL, TRANSACTIONS
from tillstream.streams.window import split_old

ANONYMOUS = ReceiptEvent | TickEvent
"""Events that may have no account."""


class Fetched(NamedTuple):
    """One batch of one partition of `transactions`; `membership` is the consumer group's metadata under which it was fetched."""

    partition: int
    messages: Sequence[Message]
    membership: object

    def message_at(self, offset: int) -> Message:
        """The record at `offset`; batches have few gaps, so it stands near offset - first."""
        return self.messages[bisect_left(self.messages, offset, key=lambda message: message.offset() or 0)]


class Judged(NamedTuple):
    """A batch judged: the snapshot with all applied, where the partition stood, the outcomes, and what history must be asked first.

    `new` are provisional accounts of which nothing was known before, where rules look at members.
    """

    snapshot: Snapshot
    standing: Standing
    outcomes: list[Outcome]
    old: list[AnyRouted]
    new: set[str]


class Accrue:
    """Posts batches of one partition after another; several partitions may be in progress at once."""

    def __init__(
        self, poster: Posters, state: StateStore, writer: Writer, stats: Stats, groups: Groups, budgets: BudgetStore, replies: Replies
    ) -> None:
        self.poster = poster
        self.state = state
        self.writer = writer
        self.stats = stats
        self.groups = groups
        self.budgets = budgets
        self.replies = replies
        self.reached: dict[int, int] = {}

    async def post(self, fetched: Fetched) -> None:
        """Takes one batch through the steps of the module; ticks, which concern all accounts, are steps of their own.

        Raises:
            Fenced: another worker has written this partition meanwhile.
            RedisEmptied: Redis has less of the ledger than it had; recovery brings it up, when the next worker starts.
        """
        routed, letters = decode_routed(fetched.messages, self.poster.scanner)
        ticks = [place for place, item in enumerate(routed) if isinstance(item, Routed) and isinstance(item.event, TickEvent)]
        begin = 0
        for place in ticks:
            tick: Routed = routed[place]  # type: ignore[assignment]
            await self.post_receipts(fetched, routed[begin:place], [], tick.offset - 1)
            await self.tick(fetched, tick, tick.event)  # type: ignore[arg-type]
            begin = place + 1
        await self.post_receipts(fetched, routed[begin:], letters, fetched.messages[-1].offset() or 0)

    async def post_receipts(self, fetched: Fetched, batch: list[AnyRouted], letters: list[Record], until: int) -> None:
        """All but ticks, up to source offset `until`; nothing where the partition stands there already."""
        judged = await self.judge(fetched.partition, lambda: self.state.load(fetched.partition, batch), batch, until)  # (1) (2)
        if judged is None:
            return
        snapshot, standing, outcomes, old, new = judged
        following = [*followers(outcomes, fetched), *refusals(outcomes, fetched), *recalls(old, fetched)]
        # Before the ledger: without transactions a crash in between repeats what follows, and its key tells; it is never missing.
        records = [*following, *letters, *ledger_records(fetched.partition, outcomes)]
        after = await self.append(fetched, records, standing, until)  # (3)
        await self.write(fetched.partition, snapshot, standing, after._replace(as_of=snapshot.as_of))  # (4)
        if new:
            await self.take_over(fetched, new, after, until)
        await self.groups.review(others_due(snapshot))
        if replies := replies_of(outcomes, snapshot):
            await self.replies.send(replies)
        self.stats.count(outcomes)
        self.stats.clock(round(time() * 1000), fetched.messages[: len(batch)])

    async def judge(
        self, partition: int, load: Callable[[], Awaitable[Loaded]], batch: Sequence[AnyRouted], until: int | None = None
    ) -> Judged | None:
        """Steps (1) and (2); None where the partition stands at `until`. From the beginning again where a lease was short, or void."""
        self.state.with_members = self.poster.looks_at_members
        whole = False
        while True:
            snapshot, standing = await load()
            self.check_forward(partition, standing)
            if until is not None and until <= standing.offset:
                return None
            ready, old = split_old([routed for routed in batch if routed.offset > standing.offset], snapshot)
            new = strangers(ready, snapshot) if self.poster.looks_at_members else set()
            await count_again(self.state, self.poster, partition, snapshot)
            again = self.poster.in_need_of_chronicles(ready, snapshot)
            if again:  # Completes step (1) for accounts that have an event which came late.
                await self.state.load_chronicles(partition, snapshot, again)
            await self.groups.join(snapshot, self.poster.in_need_of_kin(ready, snapshot, again))
            told = await self.groups.told(ready)
            lease = await self.budgets.lease(partition, self.poster.budget_limits, whole=whole)
            self.poster.budgets = lease
            outcomes = self.poster.post(told, snapshot)
            if await self.budgets.settle(lease, used=not lease.short) and not lease.short:
                return Judged(snapshot, standing, outcomes, old, new)
            whole = True

    async def take_over(self, fetched: Fetched, accounts: set[str], standing: Standing, until: int) -> None:
        """Receipts that were on their way while their identity was enrolled: `enrol` found nothing of their accounts."""
        firsts = await first_enrolments(self.groups.registry, accounts)
        if firsts:
            timestamp_ms = fetched.messages[-1].timestamp()[1]
            records = [takeover(account, first, timestamp_ms) for account, first in firsts.items()]
            await self.append(fetched, records, standing, until)

    async def tick(self, fetched: Fetched, tick: Routed, event: TickEvent) -> None:
        """What falls due, for some accounts at a time; the last step moves the partition past the tick.

        Each step stands by itself: a tick that is judged again finds nothing due for the accounts that were dealt with.
        """
        partition = fetched.partition
        standing = await self.state.standing(partition)
        self.check_forward(partition, standing)
        if tick.offset <= standing.offset:
            return
        dates, due = await self.state.due_accounts(partition, max(standing.as_of or "", event.data.date.isoformat()))
        accounts = sorted({*due, *await self.groups.reviews.take(partition)})
        for first in range(0, len(accounts), TICK_ACCOUNTS_MAX):
            some = accounts[first : first + TICK_ACCOUNTS_MAX]
            judged = await self.judge(partition, partial(self.state.load_keys, partition, some, (), (), ()), [tick])
            if judged is None:
                continue
            snapshot, standing, outcomes, *_ = judged
            records = [*followers(outcomes, fetched), *ledger_records(partition, outcomes)]
            if records:
                after = await self.append(fetched, records, standing, None)
                await self.write(partition, snapshot, standing, after)
            await self.groups.review(others_due(snapshot))
        standing = await self.state.standing(partition)
        seen = Snapshot(standing.as_of)
        closing = record_in(seen, tick_posting(event, tick.offset, None, []))
        after = await self.append(fetched, [Record(LEDGER, None, closing, partition)], standing, tick.offset)
        await self.write(partition, seen, standing, after._replace(as_of=seen.as_of))
        await self.state.forget_expiries(partition, dates, tick.offset)
        await self.groups.reviews.done(partition)

    def check_forward(self, partition: int, standing: Standing) -> None:
        """Raises RedisEmptied where a partition has less of its ledger than before: judged by that, what is known would count again."""
        reached = self.reached.get(partition, -1)
        if standing.ledger < reached:
            raise RedisEmptied(f"partition {partition} has the ledger up to {standing.ledger}, and had it up to {reached}")
        self.reached[partition] = standing.ledger

    async def write(self, partition: int, snapshot: Snapshot, before: Standing, after: Standing) -> None:
        """Step (4)."""
        await self.state.apply(partition, snapshot, before, after)
        self.reached[partition] = after.ledger

    async def append(self, fetched: Fetched, records: list[Record], before: Standing, until: int | None) -> Standing:
        """Step (3); where the partition will stand: at `until`, or, None, where it stood, with more in the ledger.

        An offset goes along in either case: by it the broker tells a writer that has lost the partition.
        """
        stands = before.offset if until is None else until
        places = await self.writer.append(records, Consumed(TRANSACTIONS, fetched.partition, stands + 1), fetched.membership)
        return Standing(stands, max(before.ledger, places.get(LEDGER, -1)), before.as_of)


def decode_routed(messages: Sequence[Message], scanner: Scanner | None) -> tuple[list[AnyRouted], list[Record]]:
    """What `identify` routed, in order; dead letters for what did not come from it."""
    routed: list[AnyRouted] = []
    letters: list[Record] = []
    raws = [message.value() or b"" for message in messages]
    offsets = [message.offset() or 0 for message in messages]
    scanned = [None] * len(raws) if scanner is None else scanner.scan(raws, offsets)
    for message, raw, sale in zip(messages, raws, scanned, strict=True):
        if sale is not None:
            routed.append(sale)
            continue
        try:
            # Longer than what a till may send by what identify and recall have put in front.
            event = decode(raw, ROUTED_BYTES_MAX)
            account = event.accountid
            anonymous = account is None and not isinstance(event, ANONYMOUS)
            if account is UNSET or anonymous or not isinstance(event, AccountEvent | TickEvent):
                raise Malformed("not_routed", "$.accountid", "is missing: this event did not come through identify")
            routed.append(Routed(event, account, message.offset() or 0, raw))
        except Malformed as problem:
            letters.append(deadletter(problem, message))
    return routed, letters


def ledger_records(partition: int, outcomes: Sequence[Outcome]) -> list[Record]:
    """Ledger records go to the partition that their event came from, number for number."""
    new = tuple.__new__  # As Record(...) would do it, without the call of a Python function.
    return [
        new(Record, (LEDGER, None if (account := outcome.routed.account_id) is None else account.encode(), record, partition, 0))
        for outcome in outcomes
        for record in outcome.records
    ]


def followers(outcomes: Sequence[Outcome], fetched: Fetched) -> Iterator[Record]:
    """What follows on other accounts, which may live in other partitions: it comes back to whoever has them."""
    for outcome in outcomes:
        for account_id, raw in outcome.follow:
            timestamp_ms = fetched.message_at(outcome.routed.offset).timestamp()[1]
            yield Record(TRANSACTIONS, account_id.encode(), with_account(raw, account_id), timestamp_ms=timestamp_ms)


def recalls(old: Sequence[AnyRouted], fetched: Fetched) -> Iterator[Record]:
    """Events about sales that Redis has let go: history is asked, and they come back."""
    for routed in old:
        timestamp_ms = fetched.message_at(routed.offset).timestamp()[1]
        yield Record(RECALL, routed.sale_key.encode(), routed.raw, timestamp_ms=timestamp_ms)


def refusals(outcomes: Sequence[Outcome], fetched: Fetched) -> Iterator[Record]:
    """Dead letters, with the bytes of the event itself also where it had waited for another."""
    for outcome in outcomes:
        if outcome.problem is not None:
            yield deadletter(outcome.problem, fetched.message_at(outcome.routed.offset), as_sent(outcome.routed.raw, outcome.routed.event))
