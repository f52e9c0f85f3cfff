"""Codes of vouchers: what is read as one, and that every mistake of the promised kinds is told, tried one by one."""

import secrets
from itertools import combinations

import pytest

from tillstream.kernels.voucher_codes import ALPHABET, CHANCE_SYMBOLS, SYMBOLS, WrongCode, code_of, digest_of, grouped, parsed

KEY = b"0123456789abcdef"


def made() -> str:
    return code_of(secrets.token_bytes(CHANCE_SYMBOLS))


def is_code(text: str) -> bool:
    try:
        return parsed(text) == text
    except WrongCode:
        return False


def test_code_has_75_bits_of_chance_and_reads_back_however_it_is_written() -> None:
    assert CHANCE_SYMBOLS * 5 == 75
    for _ in range(200):
        code = made()
        assert len(code) == SYMBOLS
        assert set(code) <= set(ALPHABET)
        mistaken = (f" {code.replace('1', 'l').replace('0', 'O')}\n", code.replace("1", "i"))
        for written in (code, grouped(code), grouped(code).lower(), *mistaken):
            assert parsed(written) == code


def test_every_single_wrong_symbol_is_told() -> None:
    code = made()
    wrong = [code[:place] + other + code[place + 1 :] for place in range(SYMBOLS) for other in ALPHABET if other != code[place]]
    assert len(wrong) == SYMBOLS * 31
    assert not any(map(is_code, wrong))


def test_any_two_symbols_that_changed_places_are_told() -> None:
    for _ in range(50):
        code = made()
        for one, two in combinations(range(SYMBOLS), 2):
            symbols = list(code)
            symbols[one], symbols[two] = symbols[two], symbols[one]
            assert code[one] == code[two] or not is_code("".join(symbols))


def test_equal_neighbours_mistaken_for_another_equal_pair_are_told() -> None:
    for place in range(CHANCE_SYMBOLS - 1):
        chance = bytearray(secrets.token_bytes(CHANCE_SYMBOLS))
        chance[place + 1] = chance[place]
        code = code_of(bytes(chance))
        assert not any(is_code(code[:place] + 2 * other + code[place + 2 :]) for other in ALPHABET if other != code[place])


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "0 letters"), ("0123-4567-89AB-CDE", "15 letters"), ("0123-4567-89AB-CDEU", "'U'"), ("0123-4567-89AB-CDE9", "last letter"),
     ("0123-4567-89AB-CDÉ8", "'É'"), ("0" * 4000, "4000 letters")],
)  # fmt: skip
def test_text_that_is_no_code_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(WrongCode, match=says):
        parsed(text)


def test_digest_is_another_under_another_key_and_is_no_plain_hash() -> None:
    code = made()
    assert digest_of(code, KEY) == digest_of(code, KEY)
    assert digest_of(code, KEY) != digest_of(code, b"another identity key")
    assert digest_of(code, KEY) != digest_of(made(), KEY)
