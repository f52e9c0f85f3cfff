"""What is wrong in a program or mapping file: one mistake with its path and a hint, and all of them together as an error."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a program or mapping file."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidProgram(Exception):
    """A program file with mistakes: all of them are in `mistakes`."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class InvalidMapping(Exception):
    """A mapping file with mistakes: all of them are in `mistakes`."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The known word that was probably meant, as a hint.

    >>> nearest("glod", ["green", "gold"])
    "did you mean 'gold'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
