from array import array
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from tillstream.kernels.columns import Columns
from tillstream.kernels.questions import Questions
from tillstream.schemas.member_state import Member

OWN_PARTS: tuple[str, ...]

class Looks(NamedTuple):
    closed: array[int]
    room: array[int]

class Looker:
    def __init__(self, words: int, questions: Questions) -> None: ...
    def look(self, columns: Columns, members: Sequence[Member | None], days: Sequence[date], left: Sequence[int]) -> Looks: ...

def narrowed(bits: array[int], closed: array[int]) -> array[int]: ...
