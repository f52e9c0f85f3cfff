"""Files as events and rejects: grouping, broken rows, formats, and that no row is lost."""

import base64
import gzip
import io
import json

import pytest

from tests.ingest_files import CSV, HEAD, HEADER, counted, decoded, mapping, refused, row, rows, taken
from tillstream.ingesting.run import file_outcomes


def test_rows_of_one_receipt_are_one_event() -> None:
    found = decoded(rows(row("1"), row("1", "2,00"), row("2", "3"), row("3", kind="R")))
    assert taken(found) == [("1", [1599, 200]), ("2", [300]), ("3/R", [1599])]
    assert counted(found) == {"events": 4, "rejected": 0, "passed": 1, "rows": 5}


def test_receipt_that_comes_back_later_is_rejected_with_its_first_row() -> None:
    found = decoded(rows(row("1"), row("2"), row("1", "2,00")))
    assert taken(found) == [("1", [1599]), ("2", [1599])]
    assert refused(found) == [(4, "the receipt was in row 2 already")]


def test_receipt_that_comes_back_after_its_first_rows_were_rejected_is_rejected_too() -> None:
    found = decoded(rows(row("1", "x"), row("2"), row("1", "2,00")))
    assert taken(found) == [("2", [1599])]
    assert [number for number, _ in refused(found)] == [2, 4]


def test_bad_row_refuses_its_receipt_and_says_what_is_wrong() -> None:
    found = decoded(rows(row("1"), row("1", "2,001"), row("2")))
    assert taken(found) == [("2", [1599])]
    (first, second) = [reject for one in found for reject in one.rejects]
    assert first.message == "row 3 of the same receipt is rejected; a receipt is taken as a whole"
    assert second == (
        *(3, "$.data.lines[1].amount", "amount", "'2,001' has more than 2 decimals"),
        *("say `round` in the mapping, or correct the row", row("1", "2,001"), False),
    )


def test_row_with_several_faults_tells_the_first_and_how_many_more() -> None:
    (reject,) = [reject for one in decoded(rows(row("1", "x", quantity="y"))) for reject in one.rejects]
    assert (reject.field, reject.message) == ("$.data.lines[0].quantity_milli", "'y' is no number (and 1 more in this row)")


def test_unreadable_row_refuses_the_receipts_that_it_may_belong_to() -> None:
    found = decoded(rows(row("1"), row("2"), "S;too;few", row("3"), row("4")))
    assert taken(found) == [("1", [1599]), ("4", [1599])]
    assert dict(refused(found)) == {
        3: "row 4, which may belong to this receipt, cannot be taken",
        4: "the row has 3 columns instead of 7",
        5: "row 4, which may belong to this receipt, cannot be taken",
    }


def test_row_without_a_key_is_rejected() -> None:
    assert refused(decoded(rows(row("")))) == [(2, "number is empty, by which rows are grouped")]


def test_row_that_no_event_is_meant_for_is_rejected() -> None:
    found = decoded(rows(row("1", kind="Z"), "SUM;;;;;;"))
    assert refused(found) == [(2, "no event of the mapping is meant for this row")]
    assert counted(found) == {"events": 0, "rejected": 1, "passed": 2, "rows": 3}


def test_open_quote_costs_one_row() -> None:
    found = decoded(rows(row("1"), row("2", sku='"open'), row("3"), row("4"), row("5", sku='"a;b ""c"""')))
    assert [receipt for receipt, _ in taken(found)] == ["4", "5"]
    assert (3, "no CSV row: unexpected end of data") in refused(found)
    assert found[-1].events[0]["data"]["lines"][0]["sku"] == 'a;b "c"'


def test_multiline_field_is_one_row_and_an_open_quote_is_bounded() -> None:
    by = mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nmultiline = true'))
    found = decoded(rows(row("1", sku='"two\nlines"'), row("2")), by)
    assert found[1].events[0]["data"]["lines"][0]["sku"] == "two\nlines"
    assert taken(found) == [("1", [1599]), ("2", [1599])]
    found = decoded(rows(row("1", sku='"open'), *[row(str(number)) for number in range(2, 300)]), by)
    assert refused(found)[0] == (2, "no CSV row: unexpected end of data")
    assert taken(found)[-1] == ("299", [1599])


def test_bytes_that_are_no_text_refuse_their_row_and_are_shown() -> None:
    by = mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "cp1250"').replace('by = ["number"]', 'by = ["number"]'))
    content = rows(row("1"), row("2", sku="QQ"), row("3"), row("4", sku="ser żółty")).encode("cp1250").replace(b"QQ", b"\x81")
    found = decoded(content, by)
    assert [receipt for receipt, _ in taken(found)] == ["4"]
    (reject,) = [reject for one in found for reject in one.rejects if "cp1250" in reject.message]
    assert (reject.message, "\\x81" in reject.raw) == ("0x81 is no text in cp1250", True)
    assert found[-1].events[0]["data"]["lines"][0]["sku"] == "ser żółty"


def test_header_without_a_column_stops_with_the_nearest_name() -> None:
    (only,) = decoded(HEADER.replace("amount", "amuont") + "\n" + row("1"))
    (reject,) = only.rejects
    assert (reject.rest, reject.message, reject.fix) == (True, "the header does not have the column 'amount'", "did you mean 'amuont'?")


def test_receipt_before_a_break_in_the_file_is_refused() -> None:
    whole = gzip.compress(rows(*[row(str(number // 2)) for number in range(2_000)]).encode(), 1)
    found = [outcome for _, outcome in file_outcomes(io.BytesIO(whole[: len(whole) // 2]), "f", mapping())]
    (last, stop) = [reject for one in found for reject in one.rejects][-2:]
    assert (last.message, stop.rest) == ("the file cannot be read behind this row, so its receipt may not be whole", True)
    assert counted(found)["rows"] == stop.row
    assert all(len(amounts) == 2 for _, amounts in taken(found))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_may_have_a_mark(encoding: str) -> None:
    by = mapping(CSV.replace('delimiter = ";"', f'delimiter = ";"\nencoding = "{encoding}"'))
    for content in (rows(row("1")).encode("utf-8-sig"), rows(row("1")).encode()):
        assert taken(decoded(content, by)) == [("1", [1599])]


def test_utf_16_without_a_mark_stops() -> None:
    by = mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "utf-16"'))
    assert decoded(rows(row("1")).encode("utf-16-le"), by)[-1].rejects[0].rest
    assert taken(decoded(rows(row("1")).encode("utf-16"), by)) == [("1", [1599])]


FIXED = f"""{HEAD}
[fixed]
[fields]
row = [1, 1]
number = [2, 3]
time = [5, 16]
sku = [2, 5]
amount = [7, 5]
[group]
starts = {{ row = ["H"] }}
[[sale]]
receipt_id = "{{number}}"
store_id = "s1"
register_id = "1"
business_date = "{{time}}"
issued_at = "{{time}}"
[sale.lines]
where = {{ row = ["L"] }}
sku = "{{sku}}"
quantity_milli = "1"
amount = {{ text = "{{amount}}", decimals = 2 }}
"""


def test_fixed_width_rows_belong_to_the_row_that_begins_a_receipt() -> None:
    found = decoded("LAAAAA00100\nH0012026-03-07 17:42\nLAAAAA00100\nLBBBBB00200\nH0022026-03-07 17:42\nLAAAAA00300\n", mapping(FIXED))
    assert taken(found) == [("001", [100, 200]), ("002", [300])]
    assert refused(found) == [(1, "no row before it begins a receipt")]


def test_fixed_width_field_that_is_cut_in_two_refuses_the_receipt() -> None:
    found = decoded("H0012026-03-07 17:42\nLAAAAA001\n", mapping(FIXED))
    assert refused(found)[1] == (2, "the row ends at 9, in the middle of 'amount' at 7 to 11")


def test_row_of_no_kind_in_a_receipt_refuses_it() -> None:
    found = decoded("H0012026-03-07 17:42\nLAAAAA00100\nXAAAAA00100\n", mapping(FIXED))
    assert refused(found)[2] == (3, "the row is no line and no tender of its receipt")


JSON = f"""{HEAD}
[json]
items = "receipts"
[fields]
number = "no"
store = "$.shop"
time = "at"
[[sale]]
receipt_id = "{{store}}/{{number}}"
store_id = "{{store}}"
register_id = "1"
business_date = "{{time}}"
issued_at = "{{time}}"
[sale.lines]
each = "lines"
fields = {{ sku = "sku", amount = "price", quantity = "count" }}
sku = "{{sku}}"
quantity_milli = "{{quantity}}"
amount = "{{amount}}"
"""


def document(*receipts: object) -> str:
    return json.dumps({"shop": "s1", "receipts": receipts})


def receipt(number: int, *prices: object) -> dict[str, object]:
    return {"no": number, "at": "2026-03-07T17:42:10", "lines": [{"sku": "a", "count": 1, "price": price} for price in prices]}


def test_json_numbers_are_read_digit_by_digit() -> None:
    text = document(receipt(1, "PRICE")).replace('"PRICE"', "92233720368547757.99")
    assert taken(decoded(text, mapping(JSON))) == [("s1/1", [9223372036854775799])]


def test_json_records_are_refused_one_by_one() -> None:
    found = decoded(document(receipt(1, 1.5), receipt(2, "x"), 7, {"no": [1]}, receipt(3, True), receipt(4, 2)), mapping(JSON))
    assert taken(found) == [("s1/1", [150]), ("s1/4", [200])]
    assert [number for number, _ in refused(found)] == [2, 3, 4, 5]


@pytest.mark.parametrize("text", ["", "{", "[1,", "NaN", '{"a": 1}', "[" * 100_000, '"\ud800"'.encode("utf-8", "surrogatepass")])
def test_json_document_that_is_none_stops_with_a_reason(text: str | bytes) -> None:
    (only,) = decoded(text, mapping(JSON))
    assert only.rejects[0].rest


def test_json_record_that_comes_twice_is_refused_the_second_time() -> None:
    found = decoded(document(receipt(1, 1), receipt(2, 1), receipt(1, 1)), mapping(JSON))
    assert taken(found) == [("s1/1", [100]), ("s1/2", [100])]
    assert refused(found) == [(3, "the receipt was in row 1 already")]


def test_json_lines_are_refused_one_by_one() -> None:
    by = mapping(JSON.replace('items = "receipts"', "lines = true").replace('"$.shop"', '"shop"'))
    lines = [json.dumps({**receipt(1, 1), "shop": "s1"}), "{broken", "", json.dumps({**receipt(2, "\ud800"), "shop": "s1"})]
    found = decoded("\n".join(lines), by)
    assert taken(found) == [("s1/1", [100])]
    assert [number for number, _ in refused(found)] == [2, 4]


def test_signed_document_is_read_and_what_stands_beside_it_too() -> None:
    by = mapping(JSON.replace('items = "receipts"', 'items = "receipts"\nsigned = "data"'))
    payload = base64.urlsafe_b64encode(document(receipt(1, 1.5)).encode()).decode().rstrip("=")
    assert taken(decoded(json.dumps({"shop": "s9", "data": f"head.{payload}.sig"}), by)) == [("s9/1", [150])]
    for token in (None, "", "a.b", "a.!!!.c", "a.AAAA.c", f"head.{payload[:-4]}.sig"):
        (only,) = decoded(json.dumps({"shop": "s9", "data": token}), by)
        assert only.rejects[0].rest


XML = f"""{HEAD}
[xml]
record = "r"
[fields]
number = "@no"
store = "../shop"
time = "at"
[[sale]]
receipt_id = "{{store}}/{{number}}"
store_id = "{{store}}"
register_id = "1"
business_date = "{{time}}"
issued_at = "{{time}}"
[sale.lines]
each = "l"
fields = {{ sku = "@sku", amount = "." }}
sku = "{{sku}}"
quantity_milli = "1"
amount = "{{amount}}"
"""


def element(number: int, *prices: str) -> str:
    lines = "".join(f'<l sku="a">{price}</l>' for price in prices)
    return f'<r no="{number}"><at>2026-03-07T17:42:10</at>{lines}</r><noise/>'


def test_xml_records_see_what_stands_before_them_and_are_let_go() -> None:
    text = f"<d><shop>s1</shop>{''.join(element(number, '1.50', '2') for number in range(3000))}</d>"
    found = decoded(text, mapping(XML))
    assert len(taken(found)) == 3000
    assert set(map(str, [amounts for _, amounts in taken(found)])) == {"[150, 200]"}


def test_xml_that_breaks_off_gives_what_came_before() -> None:
    found = decoded(f"<d><shop>s1</shop>{element(1, '1')}<r no='2'>", mapping(XML))
    assert taken(found) == [("s1/1", [100])]
    assert found[-1].rejects[0].rest


def test_xpath_that_computes_a_float_is_no_money() -> None:
    by = mapping(XML.replace('amount = "."', 'amount = "sum(.)"'))
    assert "not exact" in refused(decoded(f"<d><shop>s</shop>{element(1, '1.50')}</d>", by))[0][1]


def test_members_and_activities_are_events_too() -> None:
    text = f"""{HEAD}
[csv]
[fields]
what = "what"
id = "id"
card = "card"
mail = "mail"
stars = "stars"
at = "at"
[tables.yes]
T = "true"
N = "false"
[[enrolled]]
where = {{ what = ["member"] }}
id = "crm-{{id}}"
time = "{{at}}"
member_id = "m{{id}}"
identities = [{{ scheme = "card", value = "{{card}}" }}, {{ scheme = "email", value = "{{mail}}" }}]
attributes = {{ stars = {{ text = "{{stars}}", as = "integer" }} }}
consents = {{ marketing = {{ text = "T", table = "yes", as = "boolean" }} }}
[[activity]]
where = {{ what = ["review"] }}
name = "review"
id = "review-{{id}}"
time = "{{at}}"
member = {{ scheme = "card", value = "{{card}}" }}
free = {{ stars = {{ text = "{{stars}}", as = "integer" }} }}
"""
    rows_ = "what,id,card,mail,stars,at\nmember,1,c1,,3,2026-03-01 10:00\nreview,2,c1,,5,2026-03-02 10:00\nreview,3,,,5,2026-03-02 10:00\n"
    found = decoded(rows_, mapping(text))
    enrolled, review = [event for one in found for event in one.events]
    assert enrolled["data"] == {
        **{"member_id": "m1", "identities": [{"scheme": "card", "value": "c1"}]},
        **{"attributes": {"stars": 3}, "consents": {"marketing": True}},
    }
    assert (review["type"], review["data"]) == ("activity.review", {"member": {"scheme": "card", "value": "c1"}, "stars": 5})
    assert refused(found) == [(4, "is empty")]
