"""Delivery status notifications."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.dsn import build_report
from posthouse.message.headers import fields, unfold
from posthouse.message.mime import scan
from posthouse.message.report import RecipientStatus, Report

NOW = datetime(2026, 11, 22, 18, 44, 19, tzinfo=UTC)
ORIGINAL = b"From: alice@example.test\r\nSubject: hello\r\n\r\nthe body\r\n"
FAILED = RecipientStatus(
    final="bob@example.net",
    action="failed",
    status="5.1.1",
    original="rfc822;bob+x@example.org",
    remote_mta="mail.example.net",
    diagnostic="550-5.1.1 No such user\n550 5.1.1 here",
    last_attempt=NOW,
)
REPORT = Report(
    hostname="mx.example.test",
    sender="alice@example.test",
    recipients=(FAILED,),
    message_id="<1@mx.example.test>",
    date=NOW,
    arrival=NOW - timedelta(hours=1),
    envid="QQ 314",
)


def values(section):
    return {field.name.decode(): unfold(field.value).decode() for field in fields(section)}


def parts(report, original=ORIGINAL, **limits):
    """The report's header, its text, the blocks of its delivery status, what it returns of the message."""
    data = build_report(report, original, **limits)
    root = scan(data)
    text, status, returned = root.children
    bodies = [data[part.body_start : part.body_end] for part in root.children]
    assert text.type + b"/" + text.subtype == b"text/plain"
    assert status.subtype.removeprefix(b"global-") == b"delivery-status"
    blocks = [values(block) for block in bodies[1].split(b"\r\n\r\n")]
    return values(data), bodies[0].decode(), blocks, (returned.type + b"/" + returned.subtype).decode(), bodies[2]


def test_a_failure_is_reported_in_the_standard_fields():
    """RFC 3464 §2.2, §2.3; RFC 3461 §6.3: ENVID and ORCPT come back decoded."""
    _, _, (message, recipient), _, _ = parts(REPORT)
    assert message == {
        "Original-Envelope-Id": "QQ 314",
        "Reporting-MTA": "dns; mx.example.test",
        "Arrival-Date": "Sun, 22 Nov 2026 17:44:19 +0000",
    }
    assert recipient == {
        "Original-Recipient": "rfc822; bob+x@example.org",
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mail.example.net",
        "Diagnostic-Code": "smtp; 550-5.1.1 No such user 550 5.1.1 here",
        "Last-Attempt-Date": "Sun, 22 Nov 2026 18:44:19 +0000",
    }


def test_the_report_s_own_header_keeps_machines_from_answering():
    """RFC 3834 §2, RFC 6522 §3."""
    header, _, _, _, _ = parts(REPORT)
    kind = header.pop("Content-Type")
    assert kind.startswith('multipart/report; report-type=delivery-status;\tboundary="')
    assert header == {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example.test>",
        "To": "<alice@example.test>",
        "Subject": "Your message could not be delivered",
        "Date": "Sun, 22 Nov 2026 18:44:19 +0000",
        "Message-ID": "<1@mx.example.test>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
    }


def test_people_read_what_happened_to_which_address_and_what_to_do():
    _, text, _, _, _ = parts(REPORT)
    for sentence in (
        "This is the mail system at mx.example.test.",
        "<bob@example.net>",
        "You wrote to <bob+x@example.org>.",
        "mail.example.net said:",
        "550-5.1.1 No such user",
        "check the address for typing errors",
        "postmaster@mx.example.test",
    ):
        assert sentence in text
    assert all(len(line) <= 76 for line in text.split("\r\n"))


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("5.1.2", "no mail goes to that domain"),
        ("5.1.99", "typing errors"),
        ("5.2.2", "mailbox is full"),
        ("5.3.4", "too large"),
        ("4.4.7", "could not be reached"),
        ("5.7.1", "does not want this message"),
        ("5.0.0", "ask the postmaster"),
        ("", "ask the postmaster"),
    ],
)
def test_advice_follows_the_status(status, advice):
    """RFC 3463 §3."""
    _, text, _, _, _ = parts(replace(REPORT, recipients=(replace(FAILED, status=status),)))
    assert advice in " ".join(text.split())


def test_our_own_findings_are_not_passed_off_as_a_server_s_reply():
    """RFC 3464 §2.3.6."""
    own = replace(FAILED, remote_mta="", diagnostic="example.net has no mail server")
    _, text, blocks, _, _ = parts(replace(REPORT, recipients=(own,)))
    assert blocks[1]["Diagnostic-Code"] == "X-Posthouse; example.net has no mail server"
    assert "said:" not in text


def test_a_delay_says_until_when_delivery_is_tried():
    """RFC 3464 §2.3.9."""
    delayed = RecipientStatus("bob@example.net", "delayed", "4.4.1", retry_until=NOW + timedelta(days=4))
    header, text, blocks, kind, returned = parts(replace(REPORT, recipients=(delayed,)))
    assert header["Subject"] == "Your message is delayed, we keep trying"
    assert "until 2026-11-26 18:44 UTC" in " ".join(text.split())
    assert blocks[1]["Action"] == "delayed"
    assert blocks[1]["Will-Retry-Until"] == "Thu, 26 Nov 2026 18:44:19 +0000"
    assert (kind, returned) == ("text/rfc822-headers", b"From: alice@example.test\r\nSubject: hello\r\n")


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_a_success_returns_the_headers_alone(action):
    """RFC 3461 §4.3: RET concerns failures."""
    success = RecipientStatus("bob@example.net", action, "2.0.0")
    _, _, blocks, kind, _ = parts(replace(REPORT, ret="FULL", recipients=(success,)))
    assert blocks[1]["Action"] == action
    assert kind == "text/rfc822-headers"


def test_a_report_about_several_recipients_is_about_the_worst():
    several = (RecipientStatus("a@example.net", "delivered", "2.0.0"), FAILED)
    header, text, blocks, _, _ = parts(replace(REPORT, recipients=several))
    assert header["Subject"] == "Your message could not be delivered"
    assert [block.get("Action") for block in blocks] == [None, "delivered", "failed"]
    assert "This one was delivered." in text


def test_the_whole_message_comes_back_unless_it_is_large_or_headers_were_asked_for():
    assert parts(REPORT)[3:] == ("message/rfc822", ORIGINAL)
    headers_only = ("text/rfc822-headers", b"From: alice@example.test\r\nSubject: hello\r\n")
    assert parts(replace(REPORT, ret="HDRS"))[3:] == headers_only
    assert parts(REPORT, max_original_bytes=len(ORIGINAL) - 1)[3:] == headers_only
    assert parts(REPORT, max_original_bytes=len(ORIGINAL))[3] == "message/rfc822"
    assert parts(REPORT, max_original_bytes=30)[3:] == ("text/rfc822-headers", b"From: alice@example.test")


def test_a_message_in_8_bit_is_returned_as_it_is():
    original = "Subject: x\r\n\r\ngrün\r\n".encode()
    header, _, _, _, returned = parts(REPORT, original)
    assert header["Content-Transfer-Encoding"] == "8bit"
    assert returned == original


def test_utf8_addresses_are_written_in_utf8_only_to_who_can_read_them():
    """RFC 6533 §3, §4."""
    utf8 = replace(FAILED, final="jörg@example.net", original="utf-8;jörg@example.net")
    report = replace(REPORT, recipients=(utf8,))
    _, _, blocks, kind, _ = parts(replace(report, smtputf8=True))
    assert blocks[1]["Final-Recipient"] == blocks[1]["Original-Recipient"] == "utf-8; jörg@example.net"
    assert kind == "message/global"
    _, text, blocks, kind, _ = parts(report)
    assert blocks[1]["Final-Recipient"] == "utf-8; j\\x{F6}rg@example.net"
    assert kind == "message/rfc822"
    assert "<jörg@example.net>" in text


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.text(max_size=400), st.text(max_size=30), st.binary(max_size=60), st.booleans())
def test_nothing_that_peers_said_adds_fields_parts_or_lines(address, diagnostic, envid, original, smtputf8):
    recipient = replace(FAILED, final=address, original=f"rfc822;{address}", remote_mta=envid, diagnostic=diagnostic)
    report = replace(REPORT, sender=address, recipients=(recipient,), envid=envid, smtputf8=smtputf8)
    data = build_report(report, b"Subject: x\r\n\r\n" + original)
    root = scan(data)
    assert len(root.children) == 3
    assert len(fields(data[: root.body_start])) in (8, 9)
    status = data[root.children[1].body_start : root.children[1].body_end]
    assert status.count(b"\r\n\r\n") == 1
    names = {field.name for block in status.split(b"\r\n\r\n") for field in fields(block)}
    assert names <= {
        b"Original-Envelope-Id", b"Reporting-MTA", b"Arrival-Date", b"Original-Recipient", b"Final-Recipient",
        b"Action", b"Status", b"Remote-MTA", b"Diagnostic-Code", b"Last-Attempt-Date",
    }  # fmt: skip
    assert max(len(line) for line in data.split(b"\r\n")) < 998
