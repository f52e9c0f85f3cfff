"""A voucher's code: 15 symbols of chance and one that tells mistakes, as `K7QM-2D9X-04TZ-WA5P`; 75 bits, so that nobody guesses one.

The alphabet is Crockford's base 32 (https://www.crockford.com/base32.html): no I, L, O, U; read back without regard to case, I and L are 1,
O is 0, hyphens and blanks are passed over.

The last symbol follows H. Michael Damm ("Total anti-symmetrische Quasigruppen", doctoral thesis, Marburg 2004): from c = 0, each symbol x
makes c <- c * x, and the code is right if c ends as 0. His quasigroup of order 32 is c * x = 2(c + x) in GF(2^5), modulo x^5 + x^2 + 1. So
a code is right if the sum of 2^k times the k-th symbol from the end is 0. Since 2 generates the field's 31 units and a code is
shorter than 31, it catches every single wrong symbol, every two symbols that changed places, neighbours or not, and every pair of equal
ones mistaken for another equal pair.
"""

from hashlib import blake2b

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

SYMBOLS = 16
"""With the one that tells mistakes."""

CHANCE_SYMBOLS = SYMBOLS - 1
GROUP_SYMBOLS = 4

MODULUS = 0b100101

TIMES_TWO = bytes((value << 1) ^ (MODULUS if value & 16 else 0) for value in range(32))

READ = {symbol: value for value, symbol in enumerate(ALPHABET)} | {"I": 1, "L": 1, "O": 0}

PERSON = b"tillstream/code"
"""Keeps hashes of codes apart from all others under the same key."""

SHOWN = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))


class WrongCode(ValueError):
    """A text that is no code: it was typed or read wrongly; the message says what is wrong."""


def code_of(chance: bytes) -> str:
    """The code, ungrouped, of `CHANCE_SYMBOLS` random bytes, of each of which five bits count.

    >>> code_of(bytes(15)), code_of(bytes(range(15)))
    ('0000000000000000', '0123456789ABCDE4')
    """
    check, twice = 0, TIMES_TWO
    for byte in chance:
        check = twice[check ^ (byte & 31)]
    return chance.translate(SHOWN).decode("ascii") + ALPHABET[check]


def grouped(code: str) -> str:
    """The code as people read it.

    >>> grouped("0123456789ABCDE4")
    '0123-4567-89AB-CDE4'
    """
    return "-".join(code[first : first + GROUP_SYMBOLS] for first in range(0, SYMBOLS, GROUP_SYMBOLS))


def parsed(text: str) -> str:
    """The code, ungrouped, that somebody typed or a scanner read.

    Raises:
        WrongCode: it is none.

    >>> parsed(" o123-4567 89ab-cde4")
    '0123456789ABCDE4'
    """
    symbols = [symbol for symbol in text.upper() if symbol != "-" and not symbol.isspace()]
    strange = next((symbol for symbol in symbols if symbol not in READ), None)
    if strange is not None:
        raise WrongCode(f"{strange!r} is in no code; letters and digits without U are")
    if len(symbols) != SYMBOLS:
        raise WrongCode(f"{len(symbols)} letters and digits; a code has {SYMBOLS}")
    values = [READ[symbol] for symbol in symbols]
    check = 0
    for value in values:
        check = TIMES_TWO[check ^ value]
    if check:
        raise WrongCode("the last letter does not fit the others: one is wrong, or two have changed places")
    return "".join(ALPHABET[value] for value in values)


def digest_of(code: str, key: bytes) -> str:
    """All that is stored of an ungrouped code: 32 hexadecimal digits of BLAKE2b under the installation's `identity_key`."""
    return blake2b(code.encode("ascii"), key=key, person=PERSON, digest_size=16).hexdigest()
