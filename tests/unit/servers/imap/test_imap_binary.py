"""Parts without their transfer encoding, and messages with NUL (RFC 3516)."""

import base64

import pytest

OCTETS = bytes(range(256)) * 10
PARTS = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nplain\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
    + base64.encodebytes(OCTETS).replace(b"\n", b"\r\n")
    + b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 =\r\nau lait\r\n"
    b"--b\r\nContent-Transfer-Encoding: x-own\r\n\r\n???\r\n"
    b"--b--\r\n"
)


@pytest.fixture
def parts(client):
    client.append(PARTS)
    client.ok("SELECT INBOX")
    return client


def fetched(client, items: str) -> bytes:
    client.send(b"f FETCH 1 (%b)\r\n" % items.encode())
    data = b""
    while b"\r\nf OK" not in data and not data.startswith(b"f "):
        data += client.response()
    return data


def test_a_part_comes_without_its_encoding(parts):
    """RFC 3516 §4.2; with NUL in it, as literal8."""
    assert fetched(parts, "BINARY.PEEK[2]").startswith(
        b"* 1 FETCH (BINARY[2] ~{%d}\r\n%b)\r\n" % (len(OCTETS), OCTETS)
    )
    text = "café au lait".encode()
    assert parts.ok("FETCH 1 BINARY.PEEK[3]") == [b"* 1 FETCH (BINARY[3] {%d}\r\n%b)\r\n" % (len(text), text)]
    assert parts.ok("FETCH 1 BINARY.PEEK[1]<1.3>") == [b"* 1 FETCH (BINARY[1]<1> {3}\r\nlai)\r\n"]
    assert parts.ok("FETCH 1 BINARY.PEEK[9]") == [b"* 1 FETCH (BINARY[9] NIL)\r\n"]


def test_its_size_is_that_of_what_it_stands_for(parts):
    """RFC 3516 §4.3."""
    assert parts.ok("FETCH 1 (BINARY.SIZE[2] BINARY.SIZE[3] BINARY.SIZE[])") == [
        b"* 1 FETCH (BINARY.SIZE[2] %d BINARY.SIZE[3] 13 BINARY.SIZE[] %d)\r\n" % (len(OCTETS), len(PARTS))
    ]


def test_an_encoding_that_nobody_knows_is_refused(parts):
    """RFC 3516 §4.3: UNKNOWN-CTE."""
    assert parts.refused("FETCH 1 BINARY[4]").startswith(b"NO [UNKNOWN-CTE]")


def test_showing_a_part_marks_the_message_as_seen(parts):
    assert b"Seen" not in parts.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1] FLAGS)")[0]
    assert b"\\Seen" in parts.ok("FETCH 1 BINARY[1]")[0]


def test_a_binary_part_may_stand_beside_one_that_is_streamed(client):
    """What is too large for memory is cut out of the line; octets in it must not be taken for the place."""
    large = b"x" * 70 + b"\r\n"
    message = PARTS + large * 20_000
    client.append(message)
    client.ok("SELECT INBOX")
    data = fetched(client, "BINARY.PEEK[2] BODY.PEEK[]")
    assert b"BINARY[2] ~{%d}\r\n%b BODY[] {%d}\r\n%b)\r\n" % (len(OCTETS), OCTETS, len(message), message) in data


def test_a_message_with_nul_is_taken_and_given_back(client):
    """RFC 3516 §4.4."""
    message = b"Content-Transfer-Encoding: binary\r\n\r\n\0\1\2\r\n"
    client.send(b"a APPEND INBOX ~{%d+}\r\n%b\r\n" % (len(message), message))
    assert client.until(b"a")[1].startswith(b"OK [APPENDUID ")
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 BINARY[1]") == [b"* 1 FETCH (BINARY[1] ~{5}\r\n\0\1\2\r\n FLAGS (\\Recent \\Seen))\r\n"]


@pytest.mark.parametrize("item", ["BINARY", "BINARY[TEXT]", "BINARY[1.MIME]", "BINARY.SIZE[1]<0.1>", "BINARY[0]"])
def test_what_is_no_binary_section_is_refused(parts, item: str):
    assert parts.refused(f"FETCH 1 {item}").startswith(b"BAD")
