"""Printed vouchers are read by an independent decoder (zxing-cpp), from the very files."""

import csv
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
import zxingcpp

from tillstream.errors import UsageError
from tillstream.kernels.voucher_codes import CHANCE_SYMBOLS, code_of, grouped
from tillstream.voucher_file import COLUMNS
from tillstream.voucher_sheets import MARGIN_MM, bars, label_of, print_vouchers

PX_PER_MM = 12
PDF_SCALE = 8
PDF_PX_PER_MM = PDF_SCALE * 72 / 25.4
PATH = re.compile(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z")
SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
FORMATS = {"qr": "QRCode", "code128": "Code128"}


def file_of(folder: Path, count: int) -> tuple[Path, list[str]]:
    codes = [grouped(code_of(secrets.token_bytes(CHANCE_SYMBOLS))) for _ in range(count)]
    path = folder / "codes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *([code, "spring", "1", "", "20.00 PLN", "2026-12-31"] for code in codes)])
    return path, codes


def pixels_of_svg(path: Path) -> Any:
    """The picture's rectangles, drawn."""
    text = path.read_text()
    (width, height), *_ = SIZE.findall(text)
    pixels = np.full((round(float(height) * PX_PER_MM), round(float(width) * PX_PER_MM)), 255, np.uint8)
    for x, y, w, h in (map(float, found) for found in PATH.findall(text)):
        pixels[round(y * PX_PER_MM) : round((y + h) * PX_PER_MM), round(x * PX_PER_MM) : round((x + w) * PX_PER_MM)] = 0
    return pixels


def read_in(pixels: Any, symbol: str) -> list[str]:
    found = zxingcpp.read_barcodes(pixels, formats=getattr(zxingcpp.BarcodeFormat, FORMATS[symbol]))
    return [grouped(barcode.text) for barcode in found]


@pytest.mark.parametrize("symbol", FORMATS)
def test_picture_of_each_code_reads_as_it(tmp_path: Path, symbol: str) -> None:
    path, codes = file_of(tmp_path, 5)
    assert print_vouchers(path, symbol, tmp_path / "pictures") == {
        "codes": 5, "files": 5, "first": str(tmp_path / "pictures" / "000001.svg"),
    }  # fmt: skip
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [read_in(pixels_of_svg(picture), symbol) for picture in pictures] == [[code] for code in codes]
    assert codes[0] in pictures[0].read_text()


def test_bars_of_every_beginning_and_of_digits_alone_read_as_the_code() -> None:
    """A long run of digits is written in pairs, and the digits 99 are a command there."""
    texts = [f"{pair:02}PJ0N0DK8FYGS06" for pair in range(100)] + [f"{pair:02}" * 8 for pair in range(100)]
    for text in texts:
        row = np.array([255] * 20 + [0 if module == "1" else 255 for module in bars(text)] + [255] * 20, np.uint8)
        assert read_in(np.tile(np.repeat(row, 3), (60, 1)), "code128") == [grouped(text)]


@pytest.mark.parametrize("symbol", FORMATS)
def test_sheets_have_every_code_once(tmp_path: Path, symbol: str) -> None:
    path, codes = file_of(tmp_path, 50)
    said = print_vouchers(path, symbol, tmp_path / "sheet.svg")
    files = [tmp_path / "sheet.svg", *(tmp_path / f"sheet-{number}.svg" for number in range(2, int(str(said["files"])) + 1))]
    assert len(files) > 1
    assert sorted(code for file in files for code in read_in(pixels_of_svg(file), symbol)) == sorted(codes)


@pytest.mark.parametrize("symbol", FORMATS)
def test_pdf_has_every_code_in_order(tmp_path: Path, symbol: str) -> None:
    path, codes = file_of(tmp_path, 50)
    print_vouchers(path, symbol, tmp_path / "sheet.pdf")
    with pypdfium2.PdfDocument(tmp_path / "sheet.pdf") as document:
        pages = [page.render(scale=PDF_SCALE, grayscale=True).to_numpy().squeeze() for page in document]
    label = label_of([codes[0], "spring", "1", "", "20.00 PLN", "2026-12-31"], symbol)
    cells = [cell for page in pages for cell in cells_of(page, label.width * PDF_PX_PER_MM, label.height * PDF_PX_PER_MM)]
    assert [code for cell in cells for code in read_in(cell, symbol)] == codes


def cells_of(page: Any, width: float, height: float) -> list[Any]:
    """The labels' places on a sheet, line by line; a scanner sees one at a time."""
    first = MARGIN_MM * PDF_PX_PER_MM
    lines, columns = (int((side - 2 * first) // length) for side, length in zip(page.shape, (height, width), strict=True))
    corners = [(first + line * height, first + column * width) for line in range(lines) for column in range(columns)]
    return [page[int(top) : int(top + height), int(left) : int(left + width)].copy() for top, left in corners]


def test_file_that_is_none_of_codes_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    for text, says in (("a,b\n", "no file of codes"), (f"{','.join(COLUMNS)}\n", "has no codes"), (f"{','.join(COLUMNS)}\nx\n", "line 2")):
        path.write_text(text)
        with pytest.raises(UsageError, match=says):
            print_vouchers(path, "qr", tmp_path / "sheet.svg")
    with pytest.raises(UsageError, match="No such file"):
        print_vouchers(tmp_path / "gone.csv", "qr", tmp_path / "sheet.svg")
