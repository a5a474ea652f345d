"""Our MD5 against Python's, and Dovecot's stored contexts."""

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.sasl.md5 import INITIAL, compress, cram_md5_context, finish, hmac_md5


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 200])
def test_digest_is_that_of_hashlib_at_every_edge_of_the_padding(length: int):
    data = bytes(range(length))
    assert finish(INITIAL, data) == hashlib.md5(data).digest()


@given(st.binary(min_size=64, max_size=64), st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_digest_goes_on_from_a_state(block: bytes, data: bytes):
    assert finish(compress(INITIAL, block), data, 64) == hashlib.md5(block + data).digest()


@given(st.binary(max_size=200), st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_hmac_of_the_context_is_that_of_the_key(key: bytes, message: bytes):
    assert hmac_md5(cram_md5_context(key), message) == hmac.digest(key, message, "md5")


@pytest.mark.parametrize(
    ("password", "context"),
    [
        (b"secret", "cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56"),
        (b"long" * 30, "01a74a0b2494fb58799e6e41ceeec91d452d875163c886fce1b24cf24cb4e10c"),
    ],
)
def test_context_is_the_one_that_dovecot_stores(password: bytes, context: str):
    """As ``doveadm pw -s CRAM-MD5`` prints it."""
    assert cram_md5_context(password).hex() == context


def test_context_of_another_length_is_none():
    with pytest.raises(ValueError, match="32 octets"):
        hmac_md5(b"x" * 31, b"")
