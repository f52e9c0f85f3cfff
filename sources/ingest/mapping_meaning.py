"""Mistakes of meaning in a mapping: names that lead nowhere, keys of another format, expressions that do not parse.

In: a `Mapping` whose form is right. Out: every mistake; those of single values are in mapping_values.py, of places in mapping_places.py.
"""

from collections.abc import Collection, Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tillstream.schemas.mistakes import Mistake, nearest
from tillstream.sources.ingest.encodings import known_encoding
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_places import each_mistakes, expression_mistakes, place_mistakes
from tillstream.sources.ingest.mapping_rules import Lines, ReturnLines, Tenders, Where
from tillstream.sources.ingest.mapping_values import data_mistakes, format_mistakes, value_mistakes

FORMATS = ("csv", "fixed", "json", "xml")


def meaning_mistakes(mapping: Mapping) -> Iterator[Mistake]:
    """Mistakes of meaning, in the order of the file."""
    try:
        ZoneInfo(mapping.source.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Mistake("$.source.time_zone", f"unknown time zone {mapping.source.time_zone!r}", "for example Europe/Warsaw")
    given = [name for name in FORMATS if getattr(mapping, name) is not None]
    if len(given) != 1:
        told = ", ".join(given) or "none"
        yield Mistake("$", f"needs exactly one of csv, fixed, json, xml; there is {told}", "a mapping reads files of one format")
        return
    yield from _encoding_mistakes(mapping)
    yield from _record_mistakes(mapping)
    for name, place in mapping.fields.items():
        yield from place_mistakes(mapping, name, place, f"$.fields.{name}")
    yield from format_mistakes(mapping.formats)
    yield from _group_mistakes(mapping)
    for index, where in enumerate(mapping.skip):
        yield from _where_mistakes(where, mapping.fields, f"$.skip[{index}]")
    if not mapping.rules:
        yield Mistake("$", "makes no event", "add [[sale]], [[return]], [[void]], [[enrolled]] or [[activity]]")
    yield from value_mistakes(mapping, mapping.source.id, mapping.fields, "$.source.id")
    if mapping.source.currency is not None:
        yield from value_mistakes(mapping, mapping.source.currency, mapping.fields, "$.source.currency")
    for path, rule in mapping.rules:
        yield from _where_mistakes(rule.where, mapping.fields, f"{path}.where")
        yield from data_mistakes(mapping, rule, mapping.fields, path)
        for name in ("lines", "tenders"):
            part = getattr(rule, name, None)
            if part is not None:
                yield from _part_mistakes(mapping, part, f"{path}.{name}")
        if hasattr(rule, "currency") and rule.currency is None and mapping.source.currency is None:
            yield Mistake(f"{path}.currency", "is missing", "say it here, or once as source.currency")
    yield from _file_mistakes(mapping)


def _part_mistakes(mapping: Mapping, part: Lines | ReturnLines | Tenders, path: str) -> Iterator[Mistake]:
    """Lines and tenders: of records from `each`, of rows by `where`."""
    known = {**mapping.fields, **part.fields}
    yield from each_mistakes(mapping, part, path)
    for name, place in part.fields.items():
        yield from place_mistakes(mapping, name, place, f"{path}.fields.{name}")
    if not mapping.tree and isinstance(part, Tenders) and not part.where:
        yield Mistake(f"{path}.where", "is missing", "say which rows are tenders")
    yield from _where_mistakes(part.where, known, f"{path}.where")
    yield from data_mistakes(mapping, part, known, path)


def _where_mistakes(where: Where, known: Collection[str], path: str) -> Iterator[Mistake]:
    for name in where.keys() - set(known):
        yield Mistake(f"{path}.{name}", "is no field", nearest(name, known, f"the fields are {', '.join(known)}"))


def _group_mistakes(mapping: Mapping) -> Iterator[Mistake]:
    group = mapping.group
    if group is None:
        return
    if mapping.tree:
        yield Mistake("$.group", "is for rows, and a record holds its own lines", "leave it out")
    if bool(group.by) == bool(group.starts):
        yield Mistake("$.group", "needs exactly one of by, starts")
    for index, name in enumerate(group.by):
        if name not in mapping.fields:
            yield Mistake(f"$.group.by[{index}]", f"{name!r} is no field", nearest(name, mapping.fields))
    yield from _where_mistakes(group.starts, mapping.fields, "$.group.starts")


def _encoding_mistakes(mapping: Mapping) -> Iterator[Mistake]:
    for name in ("csv", "fixed", "json"):
        part = getattr(mapping, name)
        if part is not None and not known_encoding(part.encoding):
            yield Mistake(f"$.{name}.encoding", f"unknown encoding {part.encoding!r}", "for example utf-8, cp1250, iso-8859-2, cp852")
    csv = mapping.csv
    if csv is None:
        return
    if csv.header == (csv.columns is not None):
        message = "goes with header = false" if csv.header else "is missing; without a header it says how many columns a row has"
        yield Mistake("$.csv.columns", message)
    signs = [sign for sign in (csv.delimiter, csv.quote, csv.escape) if sign]
    if len(set(signs)) != len(signs) or set(signs) & set("\r\n\0"):
        yield Mistake("$.csv", "delimiter, quote and escape must be different characters, and no line breaks")


def _record_mistakes(mapping: Mapping) -> Iterator[Mistake]:
    """Where the records of a document are."""
    if mapping.json is not None:
        yield from expression_mistakes(mapping, mapping.json.items, "$.json.items")
        if mapping.json.signed is not None:
            yield from expression_mistakes(mapping, mapping.json.signed, "$.json.signed")
        if mapping.json.lines and mapping.json.items != "@":
            yield Mistake("$.json.items", "goes with one document", "leave out either items or lines")
    if mapping.xml is not None:
        prefix, colon, _ = mapping.xml.record.rpartition(":")
        if colon and prefix not in mapping.xml.namespaces:
            hint = nearest(prefix, mapping.xml.namespaces, f'add {prefix} = "..." to xml.namespaces')
            yield Mistake("$.xml.record", f"the prefix {prefix!r} is not declared", hint)


def _file_mistakes(mapping: Mapping) -> Iterator[Mistake]:
    schedule = mapping.schedule
    if schedule.every is not None and schedule.at:
        yield Mistake("$.schedule", "has both every and at", "keep one of them")
    if mapping.files.marker == "":
        yield Mistake("$.files.marker", "is empty", 'for example ".done": sales.csv is complete when sales.csv.done is there')


