"""A mapping file: TOML text in, a `Versioned` mapping out, or every mistake at once, each with its path and a hint."""

import tomllib
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from tillstream.schemas.mistakes import InvalidMapping, Mistake
from tillstream.schemas.program_form import form_mistakes
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_meaning import meaning_mistakes


class Versioned(NamedTuple):
    """A mapping and its version: the BLAKE2b-128 of its parsed content, in hexadecimal; comments and layout do not count."""

    mapping: Mapping
    version: str


def parse_mapping(text: str) -> Versioned:
    """The mapping in `text`.

    Raises:
        InvalidMapping: with every mistake found.
    """
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMapping([Mistake("$", f"not TOML: {error}")]) from None
    mistakes = list(form_mistakes(tree, Mapping))
    if not mistakes:
        mapping = msgspec.convert(tree, Mapping)
        mistakes = list(meaning_mistakes(mapping))
    if mistakes:
        raise InvalidMapping(mistakes)
    return Versioned(mapping, blake2b(msgspec.json.encode(tree, order="sorted"), digest_size=16).hexdigest())
