"""Text of any declared encoding, where a byte that is none stays visible: it becomes a lone surrogate, never an exception.

Python's own `surrogateescape` does so for bytes from 0x80 on only, and multi-byte encodings can fail on others.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, TextIOWrapper
from typing import BinaryIO, TextIO

TEXT = re.compile(
    r"utf-8(-sig)?|utf_8_sig|utf-16(-le|-be)?|ascii|cp\d+|iso8859-\d+|koi8-[rtu]|kz1048|mac-\w+|ptcp154|hp-roman8|tis-620"
    r"|big5(hkscs)?|gb2312|gbk|gb18030|shift_jis\w*|euc_\w+|johab"
)
"""Encodings of files; Python's others are for text inside programs (`unicode_escape`, `idna`) or no text at all (`zlib`)."""

ESCAPE = 0xDC00
BAD = re.compile("[\ud800-\udfff]")
HANDLER = "tillstream.escape"


def known_encoding(name: str) -> bool:
    """Whether files may be of this encoding."""
    try:
        return TEXT.fullmatch(codecs.lookup(name).name) is not None
    except (LookupError, ValueError):
        return False


def escape(error: UnicodeError) -> tuple[str, int]:
    """Each byte that is no text as U+DC00 + byte."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(ESCAPE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, escape)


def bad_byte(text: str) -> str | None:
    """The first byte of a decoded text that is none, as `0x9d`; None where all is text."""
    found = BAD.search(text)
    if found is None:
        return None
    return f"0x{ord(found[0]) - ESCAPE:02x}" if ESCAPE <= ord(found[0]) < ESCAPE + 256 else "a lone surrogate"


def readable(text: str) -> str:
    r"""The same text fit for JSON and terminals: bytes that are no text as `\x9d`."""
    return BAD.sub(lambda found: f"\\x{(ord(found[0]) - ESCAPE) & 0xFF:02x}", text)


@contextmanager
def text_of(stream: BinaryIO, encoding: str) -> Iterator[TextIO]:
    """The text in a stream, with any line break as a line feed, without the mark that Windows puts first; the stream stays open."""
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    buffered = BufferedReader(stream)  # type: ignore[type-var]
    text = TextIOWrapper(buffered, encoding=encoding, errors=HANDLER, newline=None)
    try:
        yield text
    finally:
        with suppress(ValueError):  # Whoever did not read to the end may have closed the file before.
            text.detach()
            buffered.detach()
