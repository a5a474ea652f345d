"""protocols/proxy.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.proxy import SIGNATURE, ProxyHeader, read_header

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 25\r\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 1, 1, 1, 0, 25))
V6 = SIGNATURE + b"\x21\x21\0\x24" + bytes.fromhex("20010db8" + "00" * 11 + "01") * 2 + bytes(4)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", ""),
        (V2, "192.0.2.1"),
        (V6, "2001:db8::1"),
        (SIGNATURE + b"\x20\0\0\0", ""),  # LOCAL: a health check
        (SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), ""),  # a Unix socket
        (V2[:14] + b"\0\x0f" + V2[16:] + b"abc", "192.0.2.1"),  # with extensions
    ],
)
def test_a_header_is_read_however_it_is_cut_and_not_beyond_its_end(header, client):
    for size in range(len(header)):
        assert read_header(header[:size]) is None
    assert read_header(header + b"EHLO x\r\n") == ProxyHeader(client, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP4 nowhere 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\0\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_none_is_an_error_at_once(data):
    with pytest.raises(ValueError):
        read_header(data)


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE]))
def test_any_octets_are_a_header_or_more_is_needed_or_an_error(data, start):
    try:
        header = read_header(start + data)
    except ValueError:
        return
    assert header is None or header.size_bytes <= len(start + data)
