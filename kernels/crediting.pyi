from collections.abc import Callable, Collection, Iterable
from datetime import date

from tillstream.kernels.award import Awards
from tillstream.kernels.holdings import Units
from tillstream.kernels.plain import PlainSale
from tillstream.kernels.posting import DayTerms
from tillstream.kernels.routed import Outcome
from tillstream.kernels.snapshot import Snapshot

def credit_plain(
    sales: list[PlainSale],
    awards: Awards,
    terms_of: Callable[[date], DayTerms],
    behind_day: bytes,
    units: list[str],
    snapshot: Snapshot,
    judge: Callable[[PlainSale], Iterable[Outcome]],
) -> list[Outcome]: ...
def credit(snapshot: Snapshot, account_id: str, points: Collection[tuple[str, int]], expiries: dict[str, str | None]) -> None: ...
def days_run(sales: list[PlainSale], i: int) -> int: ...
def fits(holdings: Units, points: Collection[tuple[str, int]]) -> bool: ...
