"""A program file: TOML text in, a `Program` and its version out, or every mistake at once, each with its path and a hint."""

import tomllib
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from tillstream.schemas.mistakes import InvalidProgram, Mistake
from tillstream.schemas.program_form import form_mistakes
from tillstream.schemas.program_meaning import meaning_mistakes, time_of
from tillstream.schemas.programs import Program

__all__ = ["InvalidProgram", "Mistake", "Versioned", "parse_program", "time_of"]


class Versioned(NamedTuple):
    """A program and its version: the BLAKE2b-128 of its parsed content, in hexadecimal; comments and layout do not count."""

    program: Program
    version: str


def parse_program(text: str) -> Versioned:
    """The program in `text`.

    Raises:
        InvalidProgram: with every mistake found.
    """
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:  # Also numbers and nesting beyond what Python reads.
        raise InvalidProgram([Mistake("$", f"not TOML: {error}")]) from None
    mistakes = list(form_mistakes(tree, Program))
    if mistakes:
        raise InvalidProgram(mistakes)
    program = msgspec.convert(tree, Program)
    mistakes = list(meaning_mistakes(program))
    if mistakes:
        raise InvalidProgram(mistakes)
    content = msgspec.json.encode(tree, order="sorted")
    return Versioned(program, blake2b(content, digest_size=16).hexdigest())
