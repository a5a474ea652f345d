"""Trace fields."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.headers import fields
from posthouse.message.trace import delivered_to, received_header, return_path, with_protocol

NOW = datetime(2026, 11, 22, 18, 44, 19, tzinfo=UTC)


def received(**changes):
    session = {
        "hello": "mail.example.net",
        "peer": "192.0.2.1",
        "hostname": "mx.example.test",
        "protocol": "ESMTPS",
        "trace_id": "1a2b3c",
        "date": NOW,
    }
    return received_header(**(session | changes))


def test_a_received_field_says_from_where_by_whom_how_and_for_whom():
    """RFC 5321 §4.4."""
    field = received(
        peer="2001:DB8::1", peer_name="out.example.net", recipients=["bob@example.test"], tls="TLSv1.3 with cipher X"
    )
    assert field == (
        b"Received: from mail.example.net (out.example.net [IPv6:2001:db8::1])\r\n"
        b"\tby mx.example.test with ESMTPS (using TLSv1.3 with cipher X) id 1a2b3c\r\n"
        b"\tfor <bob@example.test>; Sun, 22 Nov 2026 18:44:19 +0000\r\n"
    )


def test_several_recipients_are_not_named():
    """RFC 5321 §7.6: a blind copy stays blind."""
    assert b"for <" not in received(recipients=["a@example.test", "b@example.test"])


def test_a_utf8_recipient_is_named_only_in_a_utf8_session():
    assert b"for <" not in received(recipients=["jörg@example.test"])
    assert "for <jörg@example.test>;".encode() in received(recipients=["jörg@example.test"], protocol="UTF8SMTPS")


@pytest.mark.parametrize(
    ("verb", "tls", "auth", "utf8", "name"),
    [
        ("HELO", True, False, False, "SMTP"),
        ("EHLO", False, False, False, "ESMTP"),
        ("ehlo", True, True, False, "ESMTPSA"),
        ("EHLO", False, True, True, "UTF8SMTPA"),
        ("LHLO", True, False, False, "LMTPS"),
        ("LHLO", False, False, True, "UTF8LMTP"),
    ],
)
def test_the_protocol_has_its_registered_name(verb, tls, auth, utf8, name):
    """RFC 3848, RFC 6531 §4.3."""
    assert with_protocol(verb, tls=tls, auth=auth, utf8=utf8) == name


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_nothing_a_peer_says_leaves_its_place(hello, peer, name, tls):
    field = received(hello=hello, peer=peer, peer_name=name, tls=tls)
    assert len(fields(field)) == 1
    assert field.count(b"\n") == field.count(b"\r\n") == field.count(b"\r")
    assert field.isascii()
    assert field.count(b"(") == field.count(b")") == 1 + bool(tls)
    assert field.count(b";") == 1 + tls.count(";")
    assert max(len(line) for line in field.split(b"\r\n")) < 998


def test_the_usual_received_field_fits_lines_of_78():
    field = received(
        peer_name="a-rather-long-host-name.some-department.example.net", recipients=["x" * 60 + "@example.test"]
    )
    assert all(len(line) <= 78 for line in field.split(b"\r\n") if b"for <" not in line)


def test_return_path_and_delivered_to_carry_their_address_alone():
    assert return_path("") == b"Return-Path: <>\r\n"
    assert return_path("a@b\r\nX: y") == b"Return-Path: <a@b??X: y>\r\n"
    assert delivered_to("jörg@example.test") == "Delivered-To: jörg@example.test\r\n".encode()
