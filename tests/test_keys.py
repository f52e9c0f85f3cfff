"""Keys: what is kept of them, who passes, and who does not, each refused alike."""

from datetime import UTC, datetime, timedelta

import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator

from tillstream.gateway.keys import Keys, Minted, has_store, mint, parse_token
from tillstream.gateway.vault import Vault, VaultError
from tillstream.schemas.export import json_schemas
from tillstream.schemas.keys import Created, decode_key, encode_key, revoked

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)
VAULT = Vault(b"0123456789abcdef")


def minted(*, signed: bool = False, expires_at: datetime | None = None) -> Minted:
    return mint("till", ["PL-0001"], "front till", expires_at, NOON, VAULT if signed else None)


def table(*made: Minted) -> Keys:
    return Keys([(item.key.key_id, encode_key(item.key)) for item in made], VAULT)


def test_token_is_the_key_and_nothing_that_is_kept_tells_it() -> None:
    for signed in (False, True):
        made = minted(signed=signed)
        token = parse_token(made.token)
        assert token is not None
        assert len(token.secret) * 5 >= 128
        raw = encode_key(made.key)
        assert token.secret.encode() not in raw
        assert decode_key(raw) == made.key
        for record in (raw, encode_key(revoked(made.key, NOON))):
            Draft202012Validator(json_schemas()[orjson.loads(record)["type"]]).validate(orjson.loads(record))


def test_only_the_right_secret_of_a_known_key_passes() -> None:
    made, other = minted(), minted()
    keys = table(made, other)
    assert keys.bearer(made.token, NOON) == made.key
    own, foreign = parse_token(made.token), parse_token(other.token)
    assert own is not None
    assert foreign is not None
    wrong = [
        f"ts_{own.key_id}_{foreign.secret}",
        f"ts_{own.key_id}_",
        f"ts_{own.key_id}_\udcff",
        f"ts_{'0' * 16}_{own.secret}",
        f"ts_{own.key_id}_{own.secret}_",
        f"xx_{own.key_id}_{own.secret}",
        own.secret,
        "",
    ]
    assert [keys.bearer(token, NOON) for token in wrong] == [None] * len(wrong)


def test_revoked_and_expired_keys_do_not_pass() -> None:
    made = minted(expires_at=NOON + timedelta(days=1))
    keys = table(made)
    assert keys.bearer(made.token, NOON + timedelta(days=1, seconds=-1)) == made.key
    assert keys.bearer(made.token, NOON + timedelta(days=1)) is None
    keys.put(made.key.key_id, encode_key(revoked(made.key, NOON)))
    assert keys.bearer(made.token, NOON) is None
    assert keys.signing(made.key.key_id, NOON)[0] is None
    assert b"kept" not in encode_key(revoked(made.key, NOON))


def test_signed_key_signs_and_is_no_bearer() -> None:
    made, plain = minted(signed=True), minted()
    keys = table(made, plain)
    token = parse_token(made.token)
    assert token is not None
    assert keys.signing(made.key.key_id, NOON) == (made.key, token.secret)
    assert keys.bearer(made.token, NOON) is None
    assert keys.signing(plain.key.key_id, NOON)[0] is None
    assert keys.signing("0" * 16, NOON)[0] is None


def test_secret_opens_under_its_own_identity_key_and_id_only() -> None:
    kept = VAULT.close("a" * 16, "secret")
    assert VAULT.open("a" * 16, kept) == "secret"
    assert VAULT.close("a" * 16, "secret") != kept
    for vault, key_id, text in ((Vault(b"another-identity"), "a" * 16, kept), (VAULT, "b" * 16, kept), (VAULT, "a" * 16, "AAAA")):
        with pytest.raises(VaultError):
            vault.open(key_id, text)
    made = minted(signed=True)
    keys = Keys([(made.key.key_id, encode_key(made.key))], Vault(b"another-identity"))
    assert keys.signing(made.key.key_id, NOON)[0] is None
    assert len(keys.passed_over) == 1


def test_record_that_is_no_key_takes_its_id_away_and_is_told() -> None:
    made, other = minted(), minted()
    for raw in (b"nonsense", encode_key(other.key), b"{}"):
        keys = table(made)
        keys.put(made.key.key_id, raw)
        assert keys.bearer(made.token, NOON) is None
        assert len(keys.passed_over) == 1
    keys = table(made)
    keys.put(made.key.key_id, None)
    assert (keys.bearer(made.token, NOON), keys.passed_over) == (None, [])


def test_keys_are_the_same_before_and_after_compaction() -> None:
    """Of every id a compacted topic keeps the last record."""
    one, two = minted(), minted(signed=True)
    records = [(one.key.key_id, encode_key(one.key)), (two.key.key_id, encode_key(two.key))]
    records.append((one.key.key_id, encode_key(revoked(one.key, NOON))))
    assert Keys(records, VAULT).known == Keys(records[1:], VAULT).known


def test_till_is_of_the_stores_that_its_key_names() -> None:
    def key(*stores: str) -> Created:
        return msgspec.structs.replace(minted().key, stores=list(stores))

    assert has_store(key("PL-0001"), "PL-0001")
    assert has_store(key("CZ-1", "PL-*"), "PL-0001")
    for stores in ((), ("PL-0002",), ("PL-000",), ("pl-0001",)):
        assert not has_store(key(*stores), "PL-0001")
