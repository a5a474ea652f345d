"""Transfer encodings, kept to and not."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.transfer import decode


@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(data: bytes):
    assert decode(base64.encodebytes(data), b"Base64") == data
    assert decode(binascii.b2a_qp(data, istext=False), b"quoted-printable") == data
    assert decode(data, b"8bit") == decode(data, b"") == data


@pytest.mark.parametrize(
    ("data", "decoded"),
    [
        (b"YWJj!!ZGVm\r\n", b"abcdef"),
        (b"YQ==\r\nYg==\r\n", b"ab"),
        (b"YWJjZ", b"abc"),
        (b"YWI", b"ab"),
        (b"====", b""),
    ],
)
def test_base64_that_is_broken_gives_what_it_has(data: bytes, decoded: bytes):
    """RFC 2045 §6.8."""
    assert decode(data, b"base64") == decoded


@given(st.binary(max_size=100), st.sampled_from([b"base64", b"quoted-printable"]))
def test_nothing_is_too_broken(data: bytes, encoding: bytes):
    assert decode(data, encoding) is not None


def test_an_encoding_that_nobody_knows_is_none():
    assert decode(b"x", b"x-uuencode") is None
