"""How a message begins (RFC 8970)."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.mime import scan
from posthouse.message.preview import LONGEST, preview


def of(message: bytes) -> str:
    return preview(scan(message), lambda start, end: message[start:end])


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"First line\r\n\r\n  and\tthe next.\r\n", "First line and the next."),
        (b"> what they wrote\r\n>> and before\r\nMy answer\r\n", "My answer"),
        (b"", ""),
        (b"\x01\x02 bell \x07\r\n", "bell"),
    ],
)
def test_text_is_one_line_without_what_is_quoted(body: bytes, shown: str):
    assert of(b"Subject: x\r\n\r\n" + body) == shown


def test_it_is_decoded():
    head = b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert of(head + b"Gr=FC=DFe=\r\n aus K=F6ln") == "Grüße aus Köln"


def test_markup_is_taken_off():
    html = (
        b"Content-Type: text/html; charset=utf-8\r\n\r\n<html><head><title>T</title><style>p {x}</style></head>"
        b"<!-- no --><body><p>Q&amp;A for&nbsp;you &#8364;5 &#xD800;&uuml;</p><script>alert(1)</script>"
    )
    assert of(html) == "Q&A for you €5 \ufffdü"


def test_plain_text_goes_before_markup_but_not_where_it_says_nothing():
    def both(plain: bytes) -> bytes:
        return (
            b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\r\n" + plain + b"\r\n"
            b"--x\r\nContent-Type: text/html\r\n\r\n<b>bold</b>\r\n--x--\r\n"
        )

    assert of(both(b"plain")) == "plain"
    assert of(both(b" ")) == "bold"


def test_what_is_attached_or_encrypted_is_not_how_it_begins():
    attached = (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Disposition: attachment\r\n\r\nsecret\r\n"
        b"--x\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--x--\r\n"
    )
    assert of(attached) == ""


def test_it_is_no_longer_than_that():
    """RFC 8970 §3.2: at most 256 characters."""
    assert LONGEST <= 256
    assert len(of(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "ü".encode() * 5000)) == LONGEST


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_octets_have_one(octets: bytes):
    for kind in (b"plain", b"html"):
        text = of(b"Content-Type: text/" + kind + b"; charset=utf-8\r\n\r\n" + octets)
        assert len(text) <= LONGEST
        assert all(char.isprintable() for char in text)
        text.encode()


@pytest.mark.parametrize("piece", [b"<", b"<!--", b"<style>", b"</style ", b"&#1", b"<a ", b">\r\n"])
def test_hostile_markup_costs_no_more_than_its_size(piece: bytes):
    message = b"Content-Type: text/html\r\n\r\n" + piece * 20_000
    began = time.process_time()
    of(message)
    assert time.process_time() - began < 5
