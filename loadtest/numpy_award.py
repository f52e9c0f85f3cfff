"""The award kernel as one would write it in NumPy: what Cython is measured against.

In: the same columns as `award.Kernel.award`. Out: per rule a matrix of points, one row a receipt, one column a line.

Ragged receipts are padded to matrices of [receipts, longest]; a rule is a dozen whole-matrix operations, with no loop over receipts:

    eligible  bool[receipts, longest]   the rule's bit of each line
    basis     int64[receipts]           row sums of the eligible amounts
    points    int64[receipts, longest]  floor(award * amount / basis), and one more for the largest remainders (a sort a row)

    points    int64[receipts, longest]  floor(award * amount / basis), and one more for the largest remainders
Numbers are plain int64: its sums are not checked for overflow, which the kernel does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tillstream.kernels.rules import FORMS, NONE, ROUNDINGS, STACKINGS, CompiledRules

Matrix = NDArray[np.int64]
Vector = NDArray[np.int64]
Mask = NDArray[np.bool_]


class UnsupportedError(Exception):
    """The program or the batch needs what this comparison does not do."""


class Batch:
    """One batch as padded matrices."""

    def __init__(self, columns: Sequence[Any]) -> None:
        first, tender, receipt_bits, amount, quantity, line_no, line_bits = (np.asarray(column) for column in columns[:7])
        if tender.any():
            raise UnsupportedError("points tenders")
        lengths = np.diff(first)
        self.receipt_bits = receipt_bits
        self.there: Mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        self.amount = self.padded(amount)
        self.quantity = self.padded(quantity)
        self.line_no = self.padded(line_no)
        self.line_bits = self.padded(line_bits)
        self.total: Vector = self.amount.sum(axis=1)
        self.positions: Vector = (self.quantity > 0).sum(axis=1)

    def padded(self, column: NDArray[Any]) -> NDArray[Any]:
        """A column of lines as a matrix; zeros where a receipt has fewer lines."""
        matrix = np.zeros(self.there.shape, column.dtype)
        matrix[self.there] = column
        return matrix


class NumpyAward:
    """Judges batches by compiled rules."""

    def __init__(self, compiled: CompiledRules) -> None:
        self.columns = {name: [int(value) for value in column] for name, column in compiled.columns.items()}
        self.rules_n = len(compiled.rules)
        self.step_min, self.step_points = np.asarray(compiled.step_min), np.asarray(compiled.step_points)
        if compiled.words > 1 or any(self.columns["exclusive"]):
            raise UnsupportedError("more than 64 rules, or exclusive ones")
        if STACKINGS.index("first") in self.columns["stacking"]:
            raise UnsupportedError("groups of which the first rule wins")

    def award(self, columns: Sequence[Any]) -> list[Matrix]:
        """The points of a batch, a matrix per rule.

        Raises:
            UnsupportedError: a receipt was paid with points.
        """
        batch = Batch(columns)
        given: list[Matrix] = []
        best: dict[int, tuple[Vector, Vector]] = {}
        for k in range(self.rules_n):
            eligible, chosen = self.eligible(batch, k)
            basis = np.where(eligible, batch.amount, 0).sum(axis=1)
            award = np.where(chosen > 0, self.award_of(batch, k, eligible, chosen, basis, given), 0)
            if (cap := self.columns["cap"][k]) != NONE:
                award = np.minimum(award, cap)
            if (group := self.columns["group"][k]) != NONE and self.columns["stacking"][k] == STACKINGS.index("best"):
                award = self.keep_best(best, group, k, award, chosen > 0, given)
            given.append(spread(award, np.where(eligible, batch.amount, 0), eligible, batch.line_no))
        return given

    def eligible(self, batch: Batch, k: int) -> tuple[Mask, Vector]:
        """Lines that rule k may give points for, and how many of them each receipt has; none where its minima are not met."""
        bit = np.uint64(1) << np.uint64(k)
        eligible: Mask = (batch.line_bits & bit) != 0
        open_: Mask = (
            ((batch.receipt_bits & bit) != 0)
            & (batch.total >= self.columns["min_amount"][k])
            & (batch.positions >= self.columns["min_positions"][k])
        )
        for minimum, matrix in (
            (self.columns["lines_min_amount"][k], batch.amount),
            (self.columns["lines_min_quantity"][k], batch.quantity),
        ):
            if minimum:
                open_ &= np.where(eligible, matrix, 0).sum(axis=1) >= minimum
        eligible &= open_[:, None]
        return eligible, eligible.sum(axis=1)

    def award_of(self, batch: Batch, k: int, eligible: Mask, chosen: Vector, basis: Vector, given: list[Matrix]) -> Vector | int:
        """The award before its cap, by the rule's form."""
        form, numerator, divisor = FORMS[self.columns["form"][k]], self.columns["numerator"][k], self.columns["divisor"][k]
        if form == "fixed":
            return numerator
        if form == "steps":
            first, count = self.columns["steps_first"][k], self.columns["steps_count"][k]
            reached = np.searchsorted(self.step_min[first : first + count], basis, side="right")
            points: Vector = np.concatenate(([0], self.step_points[first : first + count]))[reached]
            return points
        if form == "per_item":
            items: Vector = np.where(eligible, batch.quantity // 1_000 // divisor, 0).sum(axis=1)
            return items * np.int64(numerator)
        if form == "per_line":
            return (chosen // divisor) * np.int64(numerator)
        if form == "multiply":
            basis = np.where(eligible, given[self.columns["source"][k]], 0).sum(axis=1)
        return rounded(basis * np.int64(numerator), divisor, ROUNDINGS[self.columns["rounding"][k]])

    def keep_best(
        self, best: dict[int, tuple[Vector, Vector]], group: int, k: int, award: Vector, applies: Mask, given: list[Matrix]
    ) -> Vector:
        """The largest award of the group so far stays, receipt by receipt; what a loser gave before is taken back."""
        if group not in best:
            best[group] = np.where(applies, award, -1), np.where(applies, k, NONE)
            return award
        leading, leader = best[group]
        wins = applies & (award > leading)
        for rival in range(k):
            given[rival][wins & (leader == rival)] = 0
        best[group] = np.where(wins, award, leading), np.where(wins, k, leader)
        return np.where(wins, award, 0)


def rounded(product: Vector, divisor: int, rounding: str) -> Vector:
    """product / divisor as the rule rounds."""
    if rounding == "ceil":
        return (product + (divisor - 1)) // divisor
    if rounding == "half_up":
        return (2 * product + divisor) // (2 * divisor)
    return product // divisor


def spread(total: Vector, weights: Matrix, chosen: Mask, line_no: Matrix) -> Matrix:
    """Row by row, `total` in proportion to `weights` over the chosen columns: largest remainder, ties to the lowest line number."""
    whole = weights.sum(axis=1)
    weights = np.where((whole == 0)[:, None] & chosen, 1, weights)
    whole = np.maximum(weights.sum(axis=1), 1)
    product = total[:, None] * weights
    parts: Matrix = product // whole[:, None]
    rest = product - parts * whole[:, None]
    left = total - parts.sum(axis=1)
    if left.any():
        # Columns that are not chosen sort last; among equal remainders the lowest line number comes first.
        order = np.lexsort((line_no, np.where(chosen, -rest, 1)), axis=1)
        extra = np.arange(weights.shape[1])[None, :] < left[:, None]
        lucky = np.zeros_like(extra)
        np.put_along_axis(lucky, order, extra, axis=1)
        parts += lucky
    return parts
