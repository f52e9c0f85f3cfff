"""`POST /v1/quote`: what a basket would earn and what may pay it, by the kernels and the snapshot that a worker would judge it by.

Nothing is written: the sale is posted to a snapshot that is thrown away. What other tills take from a budget meanwhile, or what arrives
late, the sale itself will tell.
"""

import secrets
from datetime import date
from typing import Any

import msgspec
from msgspec import structs

from tillstream.gateway.answers import Payable, Quoted
from tillstream.gateway.basis import Basis, basis_of, snapshot_of
from tillstream.gateway.bodies import QuoteBody, decoded
from tillstream.gateway.outcomes import entries_of
from tillstream.gateway.problems import refusal
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.standing import Standing
from tillstream.kernels.holdings import Holding, spendable
from tillstream.kernels.identities import Seal
from tillstream.kernels.payable import payable
from tillstream.kernels.posters import Posters
from tillstream.kernels.room import Table
from tillstream.schemas.events import Malformed, SaleEvent, check_receipt, check_year, instant_text
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.programs import Program
from tillstream.schemas.receipts import Sale

_body = msgspec.json.Decoder(QuoteBody)


async def quote(call: Call) -> Answer:
    """The points of each line by rule, what may pay, and what the member has; by the till's `snapshot` where Redis does not answer."""
    gateway = call.gateway
    asked = decoded(_body, call.body)
    event = sealed(sale_of(asked), gateway.seal)
    basis = await basis_of(gateway, event, asked.snapshot)
    snapshot = await snapshot_for(gateway, event, basis) if asked.with_snapshot else None
    posting = judged(gateway.posters, basis)
    program = gateway.standings.program_on(date.fromisoformat(posting.day))
    entries, standing = entries_of(posting), basis.standing
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
            stale=basis.kept is not None,
            as_of=None if basis.kept is None else instant_text(basis.kept[1].at),
            snapshot=snapshot,
        )
    )


async def snapshot_for(gateway: Gateway, event: SaleEvent, basis: Basis) -> str | None:
    """What the till may keep of what it is quoted by; of a snapshot, that one; of nobody, nothing."""
    if basis.kept is not None:
        return basis.kept[0]
    if basis.standing is None or event.data.member is None:
        return None
    return await snapshot_of(gateway, event.data.member, basis.standing, basis.given)


def sale_of(asked: QuoteBody) -> SaleEvent:
    """The basket as the sale that it would be.

    Raises:
        Refusal: as a till's sale would be refused.
    """
    said = {name: getattr(asked, name) for name in Sale.__struct_fields__ if name in asked.__struct_fields__}
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


def sealed(event: SaleEvent, seal: Seal) -> SaleEvent:
    """The sale with its member's identity as we know it: by its hash."""
    if event.data.member is None:
        return event
    return structs.replace(event, data=structs.replace(event.data, member=seal.sealed(event.data.member)))


def judged(posters: Posters, basis: Basis) -> Posting:
    """The posting that the sale would be; the budgets are a table of this quote's own.

    Raises:
        Refusal: it would be refused.
    """
    budgets = Table()
    budgets.given = dict(basis.given)
    posters.budgets = budgets
    outcome = posters.post([basis.routed], basis.snapshot)[0]
    if outcome.problem is not None:
        raise refusal(without_data(outcome.problem))
    posting: Any = decode_record(outcome.records[0])
    return posting  # type: ignore[no-any-return]


def may_pay(program: Program, unit: str, sale: Sale, standing: Standing, day: str) -> Payable:
    """The points of a unit that may pay the sale on a local date."""
    there = spendable(standing.units.get(unit, Holding()), day)
    spending = program.units[unit].spending
    least, most = payable(program, unit, sale, there)
    if spending is None:
        return Payable(unit, least, most, 1, None)
    return Payable(unit, least, most, spending.worth.points, spending.worth.amount)
