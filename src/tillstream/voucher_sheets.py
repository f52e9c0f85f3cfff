"""Codes drawn for a printer: `tillstream vouchers print`. In: a file of codes. Out: sheets of A4 as SVG or PDF, or a folder of pictures.

A picture is rectangles and lines of text, in millimetres from the upper left corner, so that both formats draw the same. What a scanner
reads is the code without hyphens: a QR code of level M (ISO/IEC 18004, by segno), 21 modules wide, or Code 128 (ISO/IEC 15417, by
ReportLab, which draws the PDF as well; python-barcode 0.16 loses a leading 99).
"""

from collections.abc import Iterator
from html import escape
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import segno
from reportlab.graphics.barcode.code128 import Code128
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from tillstream.errors import UsageError
from tillstream.voucher_file import lines_in

SHEET_MM = (210.0, 297.0)
MARGIN_MM = 10.0

FONT, FONT_MM, CHAR_MM = "Courier", 3.2, 1.92
"""A character of Courier is 0.6 of its height wide, in every viewer."""

QR_MODULE_MM = 1.2
QR_QUIET = 4
"""Modules of white that the standard wants around a QR code."""

BAR_MODULE_MM = 0.33
"""Of Code 128: what a till's scanner reads on receipts' paper and on a phone."""

BAR_HEIGHT_MM = 15.0
BAR_QUIET = 10


class Box(NamedTuple):
    """A black rectangle."""

    x: float
    y: float
    width: float
    height: float


class Label(NamedTuple):
    """One voucher drawn: its size, its rectangles, and its lines of text, centred below them."""

    width: float
    height: float
    boxes: list[Box]
    texts: list[str]


class Placed(NamedTuple):
    """A label's place on a sheet."""

    x: float
    y: float
    label: Label


def print_vouchers(codes: Path, symbol: str, out: Path) -> dict[str, object]:
    """Draws all codes of a file; the object that `vouchers print --json` prints.

    Raises:
        UsageError: the file is none of codes, or `out` can't be written.
    """
    labels = (label_of(line, symbol) for line in lines_in(codes))
    try:
        if out.suffix == ".pdf":
            count, files = write_pdf(labels, out), [out]
        elif out.suffix == ".svg":
            count, files = write_sheets(labels, out)
        else:
            count, files = write_folder(labels, out)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}; name a file or a folder that can be written") from None
    if not count:
        raise UsageError(f"{codes}: has no codes")
    return {"codes": count, "files": len(files), "first": str(files[0])}


def label_of(line: list[str], symbol: str) -> Label:
    """The picture of one line of the file."""
    code, _, _, _, worth, expires = line
    text = code.replace("-", "")
    boxes, width, height = qr_boxes(text) if symbol == "qr" else bar_boxes(text)
    texts = [code, f"{worth} until {expires}"]
    return Label(max(width, CHAR_MM * max(map(len, texts))), height + FONT_MM * (len(texts) + 1), boxes, texts)


def qr_boxes(text: str) -> tuple[list[Box], float, float]:
    """A QR code's black runs, row by row, with its quiet zone; its width and height."""
    matrix = segno.make(text, error="m", micro=False, boost_error=False).matrix
    side = (len(matrix) + 2 * QR_QUIET) * QR_MODULE_MM
    rows = [runs("".join("1" if module else "0" for module in row), QR_MODULE_MM, QR_QUIET) for row in matrix]
    boxes = [Box(x, (place + QR_QUIET) * QR_MODULE_MM, width, QR_MODULE_MM) for place, row in enumerate(rows) for x, width in row]
    return boxes, side, side


def bar_boxes(text: str) -> tuple[list[Box], float, float]:
    """A Code 128's bars, with its quiet zone; its width and height."""
    modules = bars(text)
    boxes = [Box(x, FONT_MM, width, BAR_HEIGHT_MM) for x, width in runs(modules, BAR_MODULE_MM, BAR_QUIET)]
    return boxes, (len(modules) + 2 * BAR_QUIET) * BAR_MODULE_MM, BAR_HEIGHT_MM + FONT_MM


def bars(text: str) -> str:
    """The modules of a Code 128, black as 1.

    >>> bars("K7QM")[:11], len(bars("K7QM"))
    ('11010010000', 79)
    """
    drawn = Code128(text)
    for step in (drawn.validate, drawn.encode, drawn.decompose):
        step()
    # A letter a run: capitals are bars, A is one module wide, B two.
    return "".join("01"[run.isupper()] * (ord(run.upper()) - ord("A") + 1) for run in drawn.decomposed)


def runs(modules: str, module_mm: float, quiet: int) -> Iterator[tuple[float, float]]:
    """Where black runs of a line of modules begin, and how wide they are.

    >>> list(runs("1101", 1.0, 2))
    [(2.0, 2.0), (5.0, 1.0)]
    """
    at = 0
    for run in modules.replace("01", "0 1").replace("10", "1 0").split():
        if run[0] == "1":
            yield (quiet + at) * module_mm, len(run) * module_mm
        at += len(run)


def sheets(labels: Iterator[Label]) -> Iterator[list[Placed]]:
    """Labels on sheets, as many as fit; all are of the first one's size or near it."""
    first = next(labels, None)
    if first is None:
        return
    columns = max(1, int((SHEET_MM[0] - 2 * MARGIN_MM) // first.width))
    lines = max(1, int((SHEET_MM[1] - 2 * MARGIN_MM) // first.height))
    some = [first, *islice(labels, columns * lines - 1)]
    while some:
        yield [
            Placed(MARGIN_MM + place % columns * first.width, MARGIN_MM + place // columns * first.height, label)
            for place, label in enumerate(some)
        ]
        some = list(islice(labels, columns * lines))


def write_sheets(labels: Iterator[Label], out: Path) -> tuple[int, list[Path]]:
    """Sheets as SVG: `sheet.svg`, `sheet-2.svg` and so on."""
    count, files = 0, []
    for number, placed in enumerate(sheets(labels), 1):
        path = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
        path.write_text(svg(*SHEET_MM, placed), encoding="utf-8")
        count += len(placed)
        files.append(path)
    return count, files


def write_folder(labels: Iterator[Label], out: Path) -> tuple[int, list[Path]]:
    """A picture a code, as SVG, by their numbers in the file."""
    out.mkdir(exist_ok=True)
    files = []
    for number, label in enumerate(labels, 1):
        path = out / f"{number:06}.svg"
        path.write_text(svg(label.width, label.height, [Placed(0.0, 0.0, label)]), encoding="utf-8")
        files.append(path)
    return len(files), files


def svg(width: float, height: float, placed: list[Placed]) -> str:
    """One picture as SVG, on white."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.2f}mm" height="{height:.2f}mm" viewBox="0 0 {width:.2f} {height:.2f}">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for x, y, label in placed:
        path = "".join(f"M{x + b.x:.2f} {y + b.y:.2f}h{b.width:.2f}v{b.height:.2f}h{-b.width:.2f}z" for b in label.boxes)
        lines.append(f'<path shape-rendering="crispEdges" d="{path}"/>')
        for place, text in enumerate(reversed(label.texts)):
            below = y + label.height - FONT_MM * (place + 0.5)
            middle = f'x="{x + label.width / 2:.2f}" y="{below:.2f}" text-anchor="middle"'
            lines.append(f'<text {middle} font-family="{FONT}, monospace" font-size="{FONT_MM}">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>\n"])


def write_pdf(labels: Iterator[Label], out: Path) -> int:
    """Sheets as PDF; how many codes are on them."""
    canvas, count = Canvas(str(out), pagesize=(SHEET_MM[0] * mm, SHEET_MM[1] * mm)), 0
    for placed in sheets(labels):
        for x, y, label in placed:
            for box in label.boxes:
                left, bottom = (x + box.x) * mm, (SHEET_MM[1] - y - box.y - box.height) * mm
                canvas.rect(left, bottom, box.width * mm, box.height * mm, stroke=0, fill=1)
            canvas.setFont(FONT, FONT_MM * mm)
            for place, text in enumerate(reversed(label.texts)):
                below = SHEET_MM[1] - y - label.height + FONT_MM * (place + 0.5)
                canvas.drawCentredString((x + label.width / 2) * mm, below * mm, text)
        canvas.showPage()
        count += len(placed)
    canvas.save()
    return count
