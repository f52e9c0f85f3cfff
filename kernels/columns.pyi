from array import array
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tillstream.kernels.rules import CompiledRules
from tillstream.schemas.receipts import Sale

class Columns(NamedTuple):
    first: array[int]
    tender: array[int]
    receipt_bits: array[int]
    amount: array[int]
    quantity: array[int]
    line_no: array[int]
    line_bits: array[int]
    dates: list[date]

def gather(compiled: CompiledRules, sales: list[Sale], zone: ZoneInfo) -> Columns: ...
