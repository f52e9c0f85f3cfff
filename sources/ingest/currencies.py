"""Decimals of currencies (ISO 4217, list one): two, but for these."""

NONE = frozenset({"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"})
THREE = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
FOUR = frozenset({"CLF", "UYW"})


def minor_digits(currency: str) -> int:
    """How many decimals an amount of a currency has.

    >>> minor_digits("PLN"), minor_digits("JPY"), minor_digits("KWD")
    (2, 0, 3)
    """
    if currency in NONE:
        return 0
    return 3 if currency in THREE else 4 if currency in FOUR else 2
