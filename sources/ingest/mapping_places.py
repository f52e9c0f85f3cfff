"""Where fields are: whether a place is one of the mapping's format, and parses.

In: a place of `fields`, or the `each` of lines and tenders. Out: mistakes.
"""

from collections.abc import Iterator

import jmespath
from jmespath.exceptions import JMESPathError
from lxml import etree

from tillstream.schemas.mistakes import Mistake
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_rules import Lines, Place, ReturnLines, Tenders

WANTED = {
    "csv": "a column's header, or its number from 1",
    "fixed": "[start, length] in characters from 1",
    "json": "a JMESPath expression",
    "xml": "an XPath expression",
}


def place_mistakes(mapping: Mapping, name: str, place: Place, path: str) -> Iterator[Mistake]:
    """What is wrong with the place of a field."""
    if not (name.isascii() and name.isidentifier()) or name.startswith("_"):
        yield Mistake(path, f"{name!r} is no name of a field", "letters, digits and _, a letter first")
    if mapping.csv is not None:
        if isinstance(place, list):
            yield _wanted("csv", place, path)
        elif isinstance(place, str) and not mapping.csv.header:
            yield Mistake(path, f"{place!r} names a column, and there is no header", "say its number from 1")
        elif isinstance(place, int) and mapping.csv.columns is not None and place > mapping.csv.columns:
            yield Mistake(path, f"there is no column {place}", f"csv.columns is {mapping.csv.columns}")
    elif mapping.fixed is not None:
        if not isinstance(place, list):
            yield _wanted("fixed", place, path)
    else:
        kind = "json" if mapping.json is not None else "xml"
        if isinstance(place, str):
            yield from expression_mistakes(mapping, place, path)
        else:
            yield _wanted(kind, place, path)


def each_mistakes(mapping: Mapping, part: Lines | ReturnLines | Tenders, path: str) -> Iterator[Mistake]:
    """Whether lines and tenders say where they are, in the way of the format."""
    if not mapping.tree:
        for name, given in (("each", part.each is not None), ("fields", bool(part.fields))):
            if given:
                yield Mistake(f"{path}.{name}", "is for JSON and XML", "rows are chosen by `where`, and have the fields of $.fields")
    elif part.each is None:
        yield Mistake(f"{path}.each", "is missing", "the path from a record to its lines or tenders")
    else:
        yield from expression_mistakes(mapping, part.each, f"{path}.each")


def expression_mistakes(mapping: Mapping, text: str, path: str) -> Iterator[Mistake]:
    """Whether a path into a record parses."""
    if mapping.xml is not None:
        try:
            etree.XPath(text, namespaces=mapping.xml.namespaces, smart_strings=False)(etree.Element("record"))
        except (etree.XPathError, TypeError, ValueError) as error:
            yield Mistake(path, f"no XPath expression: {error}")
    else:
        try:
            jmespath.compile(text.removeprefix("$."))
        except (JMESPathError, RecursionError) as error:
            yield Mistake(path, f"no JMESPath expression: {' '.join(str(error).split())}")


def _wanted(kind: str, place: Place, path: str) -> Mistake:
    return Mistake(path, f"{place!r} is no place in this format", f"wanted is {WANTED[kind]}")
