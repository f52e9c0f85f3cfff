"""Where a member stands: accounts, holdings and tier at this moment, by the registry and the kernels that workers use."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from tillstream.gateway.answers import Balance, Lot
from tillstream.gateway.reading import Held, Hints, Keys, Look
from tillstream.kernels.facts import limit
from tillstream.kernels.holdings import NEVER, Holding, Units, copied, settle, spendable, sum_of
from tillstream.kernels.identities import hash_in, provisional_digest
from tillstream.kernels.instants import instant_ms
from tillstream.kernels.member_poster import MemberPoster
from tillstream.kernels.offering import Made
from tillstream.kernels.posters import Posters
from tillstream.kernels.registry import Registry, root_of
from tillstream.kernels.set_aside import held_points, pending_points
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.program_offers import Offer, purposes
from tillstream.schemas.programs import Program
from tillstream.schemas.receipts import Identity
from tillstream.sinks.redis import Redis

TILL = "till"
"""The channel of offers that a cashier is shown."""


class Open(NamedTuple):
    """An offer that a member may use now, by the version that was decided on, whose currency is `currency`."""

    made: Made
    offer: Offer
    currency: str


class Standing(NamedTuple):
    """A member's account, the accounts that together are what it has, each as it is, what its latest enrolment says, open till offers."""

    account: str
    group: list[str]
    held: dict[str, Held]
    profile: dict[str, Any]
    offers: list[Open]

    @property
    def units(self) -> Units:
        """What the group holds in all."""
        return sum_of(self.held[name].units for name in self.group)

    def snapshot(self) -> Snapshot:
        """What a kernel needs to judge an event of the account; a copy, since judging moves it."""
        own = self.held[self.account]
        snapshot = Snapshot(own.as_of)
        snapshot.accounts = {self.account: copied(own.units)}
        if own.member is not None:
            snapshot.members = {self.account: own.member}
        if len(self.group) > 1:
            snapshot.groups = {self.account: self.group}
            snapshot.alias_units = {name: self.held[name].units for name in self.group}
        return snapshot


class Standings:
    """Finds where members stand."""

    def __init__(self, client: Redis, partitions: int, posters: Posters) -> None:
        self.client = client
        self.partitions = partitions
        self.posters = posters
        self.hints = Hints()

    async def of_identity(self, identity: Identity, moment: datetime) -> Standing:
        """Of whoever shows a sealed identity at `moment`; somebody unknown has a provisional account that holds nothing."""
        subject = f"{identity.scheme} {identity.value}"
        look = await self._begin(subject, first_keys(identity))
        registry = await look.of_identities([identity])
        account, member = registry.account_at(identity, moment), registry.member_at(identity, limit(moment))
        root = account if member is None else root_of(member, registry.merges(limit(moment)).into)
        return await self._finish(look, subject, account, root, moment)

    async def of_account(self, account: str) -> Standing:
        """Of an account, now."""
        digest = provisional_digest(account)
        own = {("ties", account), ("members", account), *([("identities", digest)] if digest else [])}
        look = await self._begin(f"account {account}", Keys(frozenset(own), frozenset([account])))
        return await self._finish(look, f"account {account}", account, account, datetime.now(UTC))

    async def _begin(self, subject: str, otherwise: Keys) -> Look:
        look = Look(self.client, self.partitions, with_members=self.posters.looks_at_members)
        await look.fetch(self.hints.of(subject, otherwise))
        return look

    async def _finish(self, look: Look, subject: str, account: str, root: str, moment: datetime) -> Standing:
        known = await look.of_accounts([account])
        group = known.group_of(account)
        held = await look.accounts([account, *group])
        profiles = Registry()
        profiles.members = await look.facts("members", [root])
        wanted = self.timetable_offers(TILL)
        made = await look.offers(root) if wanted else []
        self.hints.note(subject, look.needed)
        consents, at_ms = profiles.consents_of(root), instant_ms(moment)
        offers = [
            Open(item, *wanted[item.version, item.offer_id])
            for item in made
            if item.group == "treated" and item.at_ms <= at_ms < item.ends_ms and (item.version, item.offer_id) in wanted
        ]
        agreed = [one for one in offers if all(consents.get(purpose) is True for purpose in purposes(one.offer))]
        return Standing(account, group, held, profiles.profile_at(root, moment) or {}, agreed)

    def timetable_offers(self, channel: str) -> dict[tuple[str, str], tuple[Offer, str]]:
        """All offers of a channel that were ever published, by version and id, each with its currency."""
        return {
            (version.version, offer.id): (offer, version.program.program.currency)
            for version in self.posters.timetable.versions
            for offer in version.program.offers
            if offer.channel == channel
        }

    def program_on(self, day: date) -> Program:
        """What holds on a local date."""
        return self.posters.timetable.effective(day).program

    def today(self) -> date:
        """The date in the programs' time zone."""
        return datetime.now(self.posters.timetable.zone).date()

    def balances(self, standing: Standing) -> list[Balance]:
        """What a member has of each unit of today's program, and of others that it holds some of."""
        day, units = self.today(), standing.units
        program = self.program_on(day)
        names = dict.fromkeys([*program.units, *units])
        return [balance_of(program, name, units.get(name, Holding()), day, standing.held[standing.account].as_of) for name in names]

    def tier(self, standing: Standing) -> str | None:
        """The member's level today; None: it has none, or there are no tiers."""
        day = self.today()
        if self.program_on(day).tiers is None:
            return None
        poster = self.posters.poster_of(self.posters.timetable.effective(day))
        if not isinstance(poster, MemberPoster):
            return None
        return poster.reached(standing.snapshot(), standing.account, day).tier or None


def first_keys(identity: Identity) -> Keys:
    """What is read first of somebody of whom nothing was read before."""
    if identity.scheme == "member":
        return Keys(frozenset([("ties", identity.value), ("members", identity.value)]), frozenset([identity.value]))
    digest = hash_in(identity)
    account = f"p-{digest}"
    return Keys(frozenset([("identities", digest), ("ties", account), ("members", account)]), frozenset([account]))


def balance_of(program: Program, unit: str, holding: Holding, day: date, as_of: str | None) -> Balance:
    """What somebody has of one unit on a local date."""
    there = spendable(holding, day.isoformat())
    terms = program.units[unit].spending if unit in program.units else None
    return Balance(
        unit=unit,
        balance=holding.balance,
        spendable=there,
        worth=None if terms is None else there // terms.worth.points * terms.worth.amount,
        pending=pending_points(holding),
        held=held_points(holding),
        lots=list(lots_of(settle(holding, as_of).lots.items())),
    )


def lots_of(lots: Iterable[tuple[str, int]]) -> Iterable[Lot]:
    return (Lot(None if expiry == NEVER else expiry, points) for expiry, points in lots)
