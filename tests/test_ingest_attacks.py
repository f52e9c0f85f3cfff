"""Files that mean harm: XML that expands or reaches out, archives that explode or lead elsewhere. Each is refused, with a reason."""

import gzip
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest_files import CSV, mapping, refused, row, rows, taken
from tests.test_ingest_decoding import XML, element
from tillstream.ingesting.run import file_outcomes
from tillstream.sources.ingest import archives
from tillstream.sources.ingest.decoding import Outcome, outcomes
from tillstream.sources.ingest.xml_records import RECORD_BYTES_MAX

QUICK_S = 5.0
"""A billion laughs would take minutes and all memory."""


def outcomes_of(content: bytes, text: str = CSV) -> list[Outcome]:
    return [outcome for _, outcome in file_outcomes(io.BytesIO(content), "file", mapping(text))]


def stopped(found: list[Outcome]) -> str:
    """Why reading ended."""
    assert found[-1].rejects[-1].rest
    return found[-1].rejects[-1].message


def zipped(*files: tuple[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files:
            writer.writestr(name, content)
    return archive.getvalue()


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE d [<!ENTITY l0 "ha">{LAUGHS}]><d a="&l9;"><shop>&l9;</shop>',
        f'<!DOCTYPE d [<!ENTITY q "{"a" * 100_000}">]><d><shop>{"&q;" * 1000}</shop>',
        '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d><shop>&x;</shop>',
        '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/evil.dtd"><d><shop>s1</shop>',
        '<!DOCTYPE d [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]><d><shop>s1</shop>',
        '<!DOCTYPE d [<!ELEMENT d ANY><!ATTLIST d a CDATA "b">]><d><shop>s1</shop>',
        "<!DOCTYPE d><d><shop>s1</shop>",
    ],
    ids=["billion laughs", "quadratic blowup", "external entity", "external DTD", "parameter entity", "default attribute", "plain"],
)
def test_document_with_a_doctype_is_refused(doctype: str) -> None:
    began = time.monotonic()
    found = outcomes_of(f"{doctype}{element(1, '1')}</d>".encode(), XML)
    assert taken(found) == []
    assert "DOCTYPE" in stopped(found) or "not well-formed" in stopped(found)
    assert "root:" not in str(found)
    assert time.monotonic() - began < QUICK_S


def test_doctype_in_utf_16_is_refused() -> None:
    text = f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE d [<!ENTITY x "y">]><d><shop>&x;</shop>{element(1, "1")}</d>'
    assert "DOCTYPE" in stopped(outcomes_of(text.encode("utf-16"), XML))


def test_undeclared_entity_is_refused_and_predefined_ones_are_text() -> None:
    assert taken(outcomes_of(f"<d><shop>a&amp;b</shop>{element(1, '1')}</d>".encode(), XML)) == [("a&b/1", [100])]
    assert "not well-formed" in stopped(outcomes_of(f"<d><shop>&x;</shop>{element(1, '1')}</d>".encode(), XML))


def test_deep_document_is_refused() -> None:
    assert "not well-formed" in stopped(outcomes_of(b"<d>" * 100_000, XML))


def test_document_without_records_is_refused_before_it_fills_memory() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += 4 * size
            return b"<d>" if self.given == 4 * size else b"<x/>" * size

    stream = Endless()
    assert "without the end of a record" in stopped(list(outcomes(stream, mapping(XML))))  # type: ignore[arg-type]
    assert stream.given < 2 * RECORD_BYTES_MAX


def test_gzip_bomb_is_refused() -> None:
    found = outcomes_of(gzip.compress(bytes(400_000_000), 9))
    assert "refused as a bomb" in stopped(found)


def test_zip_bomb_is_refused() -> None:
    found = outcomes_of(zipped(("a.csv", bytes(400_000_000))))
    assert "refused as a bomb" in stopped(found)


def test_files_of_an_archive_have_one_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000)
    monkeypatch.setattr(archives, "RATIO_MAX", 5)
    found = outcomes_of(zipped(*[(f"{number:02}.csv", rows(row(str(number))).encode() + b" " * 9_000) for number in range(50)]))
    assert "refused as a bomb" in stopped(found)
    assert 0 < len(taken(found)) < 50


def test_zip_whose_header_lies_about_its_size_is_refused() -> None:
    content = bytearray(zipped(("a.csv", rows(*[row(str(number)) for number in range(1000)]).encode())))
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")  # The size when unpacked, in the directory.
    found = outcomes_of(bytes(content))
    assert len(taken(found)) < 1000
    assert stopped(found)


def test_names_inside_an_archive_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("../../evil.csv", "/etc/evil.csv", "c:\\evil.csv", "a\x00b.csv")
    found = outcomes_of(zipped(*[(name, rows(row(str(number))).encode()) for number, name in enumerate(names)]))
    assert sorted(receipt for receipt, _ in taken(found)) == ["0", "1", "2", "3"]
    assert list(tmp_path.iterdir()) == []


def test_archive_in_an_archive_is_not_unpacked_twice() -> None:
    found = outcomes_of(zipped(("inner.zip", zipped(("a.csv", rows(row("1")).encode())))))
    assert taken(found) == []
    assert refused(found)


@pytest.mark.parametrize("cut", [5, 12, 30, -40, -8, -1])
def test_archive_that_breaks_off_is_refused_with_what_came_before(cut: int) -> None:
    text = rows(*[row(str(number)) for number in range(200)]).encode()
    for whole in (gzip.compress(text), zipped(("a.csv", text))):
        found = outcomes_of(whole[:cut])
        assert stopped(found)
        assert len(taken(found)) < 200
        read = max([int(receipt) for receipt, _ in taken(found)], default=-1) + 1
        assert [receipt for receipt, _ in taken(found)] == [str(number) for number in range(read)]
        assert len(refused(found)) <= 2, "the break, and the receipt before it"


def test_archive_of_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBERS_MAX", 3)
    found = outcomes_of(zipped(*[(f"{number}.csv", b"") for number in range(4)]))
    assert "the archive has 4 files" in stopped(found)


def test_encrypted_archive_is_refused() -> None:
    content = bytearray(zipped(("a.csv", rows(row("1")).encode())))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + place] |= 1
    assert "is encrypted" in stopped(outcomes_of(bytes(content)))


def test_archives_are_read_like_the_files_in_them() -> None:
    text = rows(row("1"), row("2")).encode()
    plain = outcomes_of(text)
    assert outcomes_of(gzip.compress(text)) == plain
    assert outcomes_of(zipped(("a.csv", text))) == plain
    two = outcomes_of(zipped(("b.csv", rows(row("2")).encode()), ("a.csv", rows(row("1")).encode())))
    assert [receipt for receipt, _ in taken(two)] == ["1", "2"]


def test_pieces_of_a_stream_do_not_matter() -> None:
    class Drop(io.RawIOBase):
        """One byte at a time."""

        def __init__(self, content: bytes) -> None:
            self.inner = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: "bytearray") -> int:  # type: ignore[override]
            piece = self.inner.read(1)
            buffer[: len(piece)] = piece
            return len(piece)

    def of(content: bytes, text: str) -> Iterator[Outcome]:
        return outcomes(Drop(content), mapping(text))  # type: ignore[arg-type]

    for text, content in ((CSV, rows(row("1"), row("2", sku="żółty")).encode()), (XML, f"<d><shop>ż</shop>{element(1, '1')}</d>".encode())):
        assert list(of(content, text)) == outcomes_of(content, text)
