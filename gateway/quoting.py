"""`POST /v1/quote`: what a basket would earn and what may pay it, by the kernels and the snapshot that a worker would judge it by.

Nothing is written: the sale is posted to a snapshot that is thrown away. What other tills take from a budget meanwhile, or what arrives
late, the sale itself will tell.
"""

import secrets
from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec

from tillstream.gateway.answers import Payable, Quoted
from tillstream.gateway.bodies import QuoteBody, decoded
from tillstream.gateway.outcomes import entries_of
from tillstream.gateway.problems import refusal
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.standing import Standing
from tillstream.kernels.holdings import Holding, spendable
from tillstream.kernels.payable import payable
from tillstream.kernels.posters import Posters
from tillstream.kernels.room import Table
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import Malformed, SaleEvent, check_receipt, check_year
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.programs import Program
from tillstream.schemas.receipts import Sale
from tillstream.sinks.budgets import BUDGETS
from tillstream.sinks.redis import Redis
from tillstream.streams.groups import partition_of

_body = msgspec.json.Decoder(QuoteBody)


async def quote(call: Call) -> Answer:
    """The points of each line by rule, what may pay, and what the member has."""
    gateway = call.gateway
    asked = decoded(_body, call.body)
    event = sale_of(asked)
    standing = None
    if event.data.member is not None:
        sealed = gateway.seal.sealed(event.data.member)
        event = msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, member=sealed))
        standing = await gateway.standings.of_identity(sealed, event.data.issued_at)
    posting = await judged(gateway, event, standing)
    program = gateway.standings.program_on(date.fromisoformat(posting.day))
    entries = entries_of(posting)
    earns: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "accrual":
            earns[entry.unit] = earns.get(entry.unit, 0) + entry.points
    return Answer(
        Quoted(
            program_version=posting.program_version,
            earns=earns,
            entries=entries,
            payable=[] if standing is None else [may_pay(program, unit, event.data, standing, posting.day) for unit in program.units],
            tier=None if standing is None else gateway.standings.tier(standing),
            balances=[] if standing is None else gateway.standings.balances(standing),
        )
    )


def sale_of(asked: QuoteBody) -> SaleEvent:
    """The basket as the sale that it would be.

    Raises:
        Refusal: as a till's sale would be refused.
    """
    said = {name: getattr(asked, name) for name in asked.__struct_fields__}
    sale = Sale(receipt_id=f"quote-{secrets.token_hex(16)}", **said)
    event = SaleEvent(specversion="1.0", id=sale.receipt_id, source="tillstream/quote", time=sale.issued_at, data=sale)
    try:
        check_year("$.data.issued_at", sale.issued_at)
        check_receipt(sale)
    except Malformed as problem:
        raise refusal(without_data(problem)) from None
    return event


def without_data(problem: Malformed) -> Malformed:
    """In a quote the basket is the whole body."""
    return Malformed(problem.code, problem.path.replace("$.data", "$", 1), problem.message)


async def judged(gateway: Gateway, event: SaleEvent, standing: Standing | None) -> Posting:
    """The posting that the sale would be.

    Raises:
        Refusal: it would be refused.
    """
    posters = gateway.posters
    account = None if standing is None else standing.account
    routed = Routed(event, account, 0, b"")
    snapshot = Snapshot() if standing is None else standing.snapshot()
    if account is not None and (late := posters.in_need_of_chronicles([routed], snapshot)):
        await gateway.state.load_chronicles(partition_of(account, gateway.settings.partitions), snapshot, late)
    given = await budgets_given(gateway.redis, posters.budget_limits)
    outcome = post(posters, routed, snapshot, given)
    if outcome.problem is not None:
        raise refusal(without_data(outcome.problem))
    posting: Any = decode_record(outcome.records[0])
    return posting  # type: ignore[no-any-return]


def post(posters: Posters, routed: Routed, snapshot: Snapshot, given: Mapping[str, int]) -> Outcome:
    """Posts to the snapshot; the budgets are a table of this quote's own."""
    budgets = Table()
    budgets.given = dict(given)
    posters.budgets = budgets
    return posters.post([routed], snapshot)[0]


async def budgets_given(client: Redis, limits: Mapping[str, int]) -> dict[str, int]:
    """What was taken of each budget, by rule id, leases included."""
    names = list(limits)
    values = await client.hmget(BUDGETS, names) if names else []
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}


def may_pay(program: Program, unit: str, sale: Sale, standing: Standing, day: str) -> Payable:
    """The points of a unit that may pay the sale on a local date."""
    there = spendable(standing.units.get(unit, Holding()), day)
    spending = program.units[unit].spending
    least, most = payable(program, unit, sale, there)
    if spending is None:
        return Payable(unit, least, most, 1, None)
    return Payable(unit, least, most, spending.worth.points, spending.worth.amount)
