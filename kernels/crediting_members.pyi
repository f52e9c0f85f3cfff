from collections.abc import Callable, Iterable, Sequence

from tillstream.kernels.award import Awards
from tillstream.kernels.member_poster import MemberPoster, Run
from tillstream.kernels.plain import PlainSale
from tillstream.kernels.routed import Outcome
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.member_state import Member

def credit_members(
    sales: Sequence[PlainSale],
    members: Sequence[Member],
    awards: Awards,
    run: Run,
    poster: MemberPoster,
    snapshot: Snapshot,
    as_of: int,
    judge: Callable[[PlainSale], Iterable[Outcome]],
) -> list[Outcome]: ...
