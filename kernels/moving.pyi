from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tillstream.kernels.asked import Asked
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Rule

class Moved(NamedTuple):
    units: dict[str, int]
    budgets: list[tuple[str, int]]
    again: bool
    pending: bool

class Mover:
    def __init__(
        self, rules: Sequence[Rule], watched: Sequence[str], asked: Asked, holding_days: Mapping[str, int]
    ) -> None: ...
    def gives(self, sums: list[tuple[int, int]]) -> Moved: ...
    def sold(self, member: Member, day: int, amount: int, watched: list[int], sums: list[tuple[int, int]]) -> None: ...
    def gave(self, member: Member, day: int, sums: list[tuple[str, int]]) -> None: ...
    def took_back(self, member: Member, rule_id: str, day: int, points: int, *, makes_room: bool) -> None: ...
