"""Mapping files: every mistake at once, with its path and a hint."""

import pytest

from tests.ingest_files import CSV
from tests.test_ingest_decoding import FIXED, JSON, XML
from tillstream.schemas.mistakes import InvalidMapping
from tillstream.sources.ingest.mapping_file import parse_mapping

MISTAKES = [
    (CSV, "delimiter", "delimeter", "$.csv.delimeter: unknown key (did you mean 'delimiter'?)"),
    (CSV, 'sku = "{sku}"\n', "", "$.sale[0].lines.sku: is missing"),
    (CSV, 'sku = "{sku}"', 'sku = "{skuu}"', "$.sale[0].lines.sku: there is no field 'skuu' (did you mean 'sku'?)"),
    (CSV, 'sku = "{sku}"', 'sku = { txt = "{sku}" }', "$.sale[0].lines.sku.txt: unknown key (did you mean 'text'?)"),
    (CSV, 'sku = "{sku}"', 'sku = { text = "{sku}", decimals = 2 }', "$.sale[0].lines.sku.decimals: does not go with text"),
    (CSV, 'sku = "{sku}"', 'sku = { text = "{sku}", table = "skus" }', "$.sale[0].lines.sku.table: no table is called 'skus'"),
    (CSV, 'sku = "{sku}"', 'sku = { text = "{sku}", otherwise = "x" }', "$.sale[0].lines.sku.otherwise: goes with `table`"),
    (CSV, 'sku = "{sku}"', 'sku = { text = "{sku}", as = "integer" }', "$.sale[0].lines.sku.as: the format of events says"),
    (CSV, 'sku = "{sku}"', 'sku = "{sku"', "$.sale[0].lines.sku: a single '{' in '{sku'"),
    (CSV, 'sku = "{sku}"', 'sku = "{sku}"\neach = "x"', "$.sale[0].lines.each: is for JSON and XML"),
    (CSV, "Europe/Warsaw", "Europe/Warszawa", "$.source.time_zone: unknown time zone 'Europe/Warszawa'"),
    (CSV, 'delimiter = ";"', 'encoding = "cp9999"', "$.csv.encoding: unknown encoding 'cp9999'"),
    (CSV, 'delimiter = ";"', 'encoding = "unicode_escape"', "$.csv.encoding: unknown encoding 'unicode_escape'"),
    (CSV, 'delimiter = ";"', "delimiter = ';'\nquote = ';'", "$.csv: delimiter, quote and escape must be different characters"),
    (CSV, 'delimiter = ";"', "header = false", "$.csv.columns: is missing"),
    (CSV, 'decimal = ","', 'decimal = ","\nthousands = ","', "$.formats.thousands: ',' is the decimal sign already"),
    (CSV, 'decimal = ","', 'time = "%d.%Q"', "$.formats.time: '%d.%Q' is no format"),
    (CSV, 'by = ["number"]', 'by = ["nr"]', "$.group.by[0]: 'nr' is no field"),
    (CSV, 'by = ["number"]', "", "$.group: needs exactly one of by, starts"),
    (CSV, 'kind = ["SUM"]', 'knd = ["SUM"]', "$.skip[0].knd: is no field (did you mean 'kind'?)"),
    (CSV, 'currency = "PLN"\n', "", "$.sale[0].currency: is missing (say it here, or once as source.currency)"),
    (CSV, "[csv]", "[json]\n[csv]", "$: needs exactly one of csv, fixed, json, xml; there is csv, json"),
    (CSV, 'kind = "kind"', 'kind = "kind"\n"a b" = "x"', "$.fields.a b: 'a b' is no name of a field"),
    (CSV, 'kind = "kind"', "kind = [1, 2]", "$.fields.kind: [1, 2] is no place in this format (wanted is a column's header"),
    (FIXED, "row = [1, 1]", 'row = "row"', "$.fields.row: 'row' is no place in this format"),
    (FIXED, "row = [1, 1]", "row = [0, 1]", "$.fields.row[0]: Expected `int` >= 1"),
    (JSON, 'number = "no"', 'number = "no["', "$.fields.number: no JMESPath expression"),
    (JSON, 'items = "receipts"', 'items = "receipts["', "$.json.items: no JMESPath expression"),
    (JSON, 'each = "lines"\n', "", "$.sale[0].lines.each: is missing"),
    (XML, 'number = "@no"', 'number = "@["', "$.fields.number: no XPath expression"),
    (XML, 'number = "@no"', 'number = "p:no"', "$.fields.number: no XPath expression"),
    (XML, 'record = "r"', 'record = "p:r"', "$.xml.record: the prefix 'p' is not declared"),
    (XML, "[[sale]]", '[group]\nby = ["number"]\n[[sale]]', "$.group: is for rows"),
    (CSV, HEAD_END := "[csv]", '[schedule]\nevery = "15 minutes"\n[csv]', "$.schedule.every: Expected `str` matching regex"),
    (CSV, HEAD_END, '[schedule]\nevery = "15m"\nat = ["06:00"]\n[csv]', "$.schedule: has both every and at"),
]


@pytest.mark.parametrize(("text", "old", "new", "told"), MISTAKES, ids=[told.partition(": ")[0] for *_, told in MISTAKES])
def test_mistake_is_told_with_its_path_and_a_hint(text: str, old: str, new: str, told: str) -> None:
    assert old in text
    with pytest.raises(InvalidMapping) as raised:
        parse_mapping(text.replace(old, new, 1))
    assert told in str(raised.value)


def test_all_mistakes_are_told_at_once() -> None:
    text = CSV.replace('sku = "{sku}"', 'sku = "{a}"').replace('by = ["number"]', 'by = ["b"]').replace("Europe/Warsaw", "c")
    with pytest.raises(InvalidMapping) as raised:
        parse_mapping(text)
    assert [mistake.path for mistake in raised.value.mistakes] == ["$.source.time_zone", "$.group.by[0]", "$.sale[0].lines.sku"]


def test_mapping_without_events_or_of_no_format_is_a_mistake() -> None:
    with pytest.raises(InvalidMapping, match=r"\$: needs exactly one of csv, fixed, json, xml; there is none"):
        parse_mapping('[source]\nid = "a"\ntime_zone = "UTC"\n[fields]')
    with pytest.raises(InvalidMapping, match=r"\$: makes no event"):
        parse_mapping('[source]\nid = "a"\ntime_zone = "UTC"\n[csv]\n[fields]')
    with pytest.raises(InvalidMapping, match="not TOML"):
        parse_mapping("=")


def test_version_is_of_the_content_not_of_the_comments() -> None:
    assert parse_mapping(CSV).version == parse_mapping("# why\n" + CSV).version
    assert parse_mapping(CSV).version != parse_mapping(CSV.replace('"s1"', '"s2"')).version
