"""Paths and parameters of MAIL and RCPT, as the server engine takes them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.smtp_sessions import ready

from posthouse.protocols.smtp import xtext
from posthouse.protocols.smtp.events import MailFrom, RcptTo


@pytest.mark.parametrize(
    ("argument", "event"),
    [
        (b"<>", MailFrom("")),
        (b" <a@b.example>", MailFrom("a@b.example")),
        (b"a@b.example SIZE=5", MailFrom("a@b.example", size=5)),
        (b'<"a>b"@c.example> SIZE=7', MailFrom('"a>b"@c.example', size=7)),
        (b'<"a\\">"@c.example>', MailFrom('"a\\">"@c.example')),
        (b"<a@b> BODY=8bitmime", MailFrom("a@b", body="8BITMIME")),
        (b"<a@b>\tbody=7BIT  smtputf8", MailFrom("a@b", smtputf8=True)),
        ("<ü@b> SMTPUTF8".encode(), MailFrom("ü@b", smtputf8=True)),
        (b"<a@b> RET=hdrs ENVID=QQ+2B314159", MailFrom("a@b", ret="HDRS", envid="QQ+314159")),
        (b"<a@b> AUTH=e+3Dmc2@example.com", MailFrom("a@b", auth="e=mc2@example.com")),
        (b"<a@b> AUTH=<>", MailFrom("a@b", auth="<>")),
    ],
)
def test_mail(argument: bytes, event: MailFrom) -> None:
    """RFC 5321 §4.1.1.2, RFC 1870, RFC 6152, RFC 6531, RFC 3461 §4, RFC 4954 §5."""
    server = ready()
    assert server.say(b"MAIL FROM:" + argument + b"\r\n").startswith(b"250 ")
    assert server.events == [event]


@pytest.mark.parametrize(
    ("argument", "event"),
    [
        (b"<a@b>", RcptTo("a@b")),
        (b"<PostMaster>", RcptTo("PostMaster")),
        (b"<@relay.example,@other.example:a@b>", RcptTo("a@b")),
        (b"<a@b> NOTIFY=never", RcptTo("a@b", frozenset({"NEVER"}))),
        (b"<a@b> NOTIFY=SUCCESS,delay", RcptTo("a@b", frozenset({"SUCCESS", "DELAY"}))),
        (b"<a@b> ORCPT=rfc822;Bob+2B1@Example.COM", RcptTo("a@b", orcpt="rfc822;Bob+1@Example.COM")),
        (b"<a@b> ORCPT=utf-8;\\x{FC}@b", RcptTo("a@b", orcpt="utf-8;ü@b")),
        ("<a@b> ORCPT=utf-8;ü@b".encode(), RcptTo("a@b", orcpt="utf-8;ü@b")),
    ],
)
def test_rcpt(argument: bytes, event: RcptTo) -> None:
    """RFC 5321 §4.1.1.3, §4.5.1; RFC 3461 §4.1, §4.2; RFC 6533 §3."""
    server = ready()
    server.say(b"MAIL FROM:<>\r\n")
    assert server.say(b"RCPT TO:" + argument + b"\r\n").startswith(b"250 ")
    assert server.events[1:] == [event]


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"", b"501 5.5.4 "),
        (b"FROM", b"501 5.5.4 "),
        (b"FROM:", b"501 5.5.4 "),
        (b"TO:<a@b>", b"501 5.5.4 "),
        (b"FROM:<a@b", b"501 5.5.4 "),
        (b'FROM:<"a>@b', b"501 5.5.4 "),
        (b"FROM:<a@b>SIZE=5", b"501 5.5.4 "),
        (b"FROM:<a b@c>", b"501 5.1.7 "),
        (b"FROM:<a@b\rc>", b"501 5.1.7 "),
        (b"FROM:<a\x00@b>", b"501 5.1.7 "),
        (b"FROM:<a>", b"501 5.1.7 "),
        (b"FROM:<postmaster>", b"501 5.1.7 "),
        (b"FROM:<" + b"a" * 300 + b"@b>", b"501 5.1.7 "),
        ("FROM:<ü@b>".encode(), b"553 5.6.7 "),
        (b"FROM:<a@b> FOO=bar", b"555 5.5.4 "),
        (b"FROM:<a@b> \xff\r=", b"555 5.5.4 "),
        (b"FROM:<a@b> NOTIFY=NEVER", b"555 5.5.4 "),
        (b"FROM:<a@b> SIZE", b"501 5.5.4 "),
        (b"FROM:<a@b> SIZE=-1", b"501 5.5.4 "),
        (b"FROM:<a@b> SIZE=123456789012345678901", b"501 5.5.4 "),
        (b"FROM:<a@b> SIZE=1 SIZE=1", b"501 5.5.4 "),
        (b"FROM:<a@b> BODY=BINARYMIME", b"501 5.5.4 "),
        (b"FROM:<a@b> SMTPUTF8=1", b"501 5.5.4 "),
        (b"FROM:<a@b> RET=ALL", b"501 5.5.4 "),
        (b"FROM:<a@b> ENVID=", b"501 5.5.4 "),
        (b"FROM:<a@b> ENVID=a+0D+0Ab", b"501 5.5.4 "),
        (b"FROM:<a@b> ENVID=a+2", b"501 5.5.4 "),
        (b"FROM:<a@b> ENVID=" + b"a" * 101, b"501 5.5.4 "),
        (b"FROM:<a@b> AUTH=\xc3\xbc", b"501 5.5.4 "),
    ],
)
def test_bad_mail(argument: bytes, reply: bytes) -> None:
    server = ready()
    assert server.say(b"MAIL " + argument + b"\r\n").startswith(reply)
    assert server.events == []


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"<>", b"501 5.1.3 "),
        (b"<a>", b"501 5.1.3 "),
        ("<ü@b>".encode(), b"553 5.6.7 "),
        (b"<a@b> SIZE=1", b"555 5.5.4 "),
        (b"<a@b> NOTIFY=", b"501 5.5.4 "),
        (b"<a@b> NOTIFY=NEVER,SUCCESS", b"501 5.5.4 "),
        (b"<a@b> NOTIFY=SOMETIMES", b"501 5.5.4 "),
        (b"<a@b> ORCPT=a@b", b"501 5.5.4 "),
        (b"<a@b> ORCPT=rfc822;", b"501 5.5.4 "),
        (b"<a@b> ORCPT=rfc822;a+0D+0AX-Evil:+20b", b"501 5.5.4 "),
        (b"<a@b> ORCPT=utf-8;\\x{0A}a@b", b"501 5.5.4 "),
        (b"<a@b> ORCPT=utf-8;\\x{D800}", b"501 5.5.4 "),
        (b"<a@b> ORCPT=utf-8;\\x{110000}", b"501 5.5.4 "),
        (b"<a@b> ORCPT=rfc822;" + b"a" * 500, b"501 5.5.4 "),
    ],
)
def test_bad_rcpt(argument: bytes, reply: bytes) -> None:
    server = ready()
    server.say(b"MAIL FROM:<>\r\n")
    assert server.say(b"RCPT TO:" + argument + b"\r\n").startswith(reply)
    assert len(server.events) == 1


def test_smtputf8_holds_for_its_own_transaction_only() -> None:
    """RFC 6531 §3.4."""
    server = ready()
    assert server.say("MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<ü@b>\r\n".encode()).count(b"250 ") == 2
    assert b"553 5.6.7 " in server.say("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<ü@b>\r\n".encode())


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
@settings(max_examples=100, deadline=None)
def test_xtext_brings_back_what_went_in(text: str) -> None:
    """RFC 3461 §4."""
    encoded = xtext.encode(text)
    assert " " not in encoded
    assert "=" not in encoded
    assert xtext.decode(encoded.encode("ascii")) == text


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
@settings(max_examples=100, deadline=None)
def test_utf8_xtext_brings_back_what_went_in(text: str) -> None:
    """RFC 6533 §3."""
    assert xtext.decode_utf8(xtext.encode_utf8(text).encode("ascii")) == text


def test_requiretls_is_offered_and_taken_within_tls_only() -> None:
    """RFC 8689 §2"""
    server = ready(starttls=True)
    assert b"REQUIRETLS" not in server.output
    assert server.say(b"MAIL FROM:<a@b> REQUIRETLS\r\n").startswith(b"530 5.7.0")
    server.say(b"STARTTLS\r\n")
    assert b"250-REQUIRETLS\r\n" in server.say(b"EHLO client.example.org\r\n")
    assert server.say(b"MAIL FROM:<a@b> REQUIRETLS=1\r\n").startswith(b"501 5.5.4")
    server.say(b"MAIL FROM:<a@b> REQUIRETLS\r\n")
    assert server.events[-1] == MailFrom("a@b", requiretls=True)
