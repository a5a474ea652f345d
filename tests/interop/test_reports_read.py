"""Delivery reports read by parsers not ours: Perl's Mail::DeliveryStatus::BounceParser, and Python's email."""

import email
import email.policy
import json
import re
import subprocess
from datetime import UTC, datetime

import pytest
from tests.interop.house import mail, until

from posthouse.message.dsn import build_report
from posthouse.message.report import RecipientStatus, Report

READ = """
use strict; use warnings; use JSON::PP; use Mail::DeliveryStatus::BounceParser;
local $/; my $bounce = Mail::DeliveryStatus::BounceParser->new(<STDIN>);
my @said = map { my $one = $_; my %fields;
    for my $name (qw(email std_reason action status reason host smtp_code reporting-mta)) {
        my $value = $one->get($name); chomp $value if defined $value; $fields{$name} = $value; }
    \\%fields } $bounce->reports;
print JSON::PP->new->ascii->encode({ is_bounce => $bounce->is_bounce ? 1 : 0, reports => \\@said,
    about => $bounce->orig_message_id });
"""
WHEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
ORIGINAL = mail("hello there", sender="alice@example.test", to="bob@far.example")
GONE = RecipientStatus("bob@far.example", "failed", "5.1.1", "", "mx.far.example", "550 5.1.1 No such user here")
FULL = RecipientStatus("eve@far.example", "failed", "5.2.2", "", "mx.far.example", "552 5.2.2 Mailbox full")
LATE = RecipientStatus("bob@far.example", "delayed", "4.4.1", "", "", "451 4.4.1 No answer", WHEN, WHEN)


@pytest.fixture(scope="module")
def read(need):
    """What Perl's parser finds in a report."""
    need("bounceparser")

    def parse(report: bytes) -> dict:
        report = report.replace(b"\r\n", b"\n")  # as it lies in an mbox file: it knows no other line ends
        done = subprocess.run(["perl", "-e", READ], input=report, capture_output=True, timeout=60, check=True)
        return json.loads(done.stdout)

    return parse


def report_on(*recipients: RecipientStatus, utf8: bool = False, original: bytes = ORIGINAL) -> bytes:
    about = Report("mail.example.test", "alice@example.test", recipients, "<r@mail.example.test>", WHEN, WHEN, "QQ1")
    if utf8:
        about = Report("mail.example.test", "älice@example.test", recipients, "<r@x.test>", WHEN, WHEN, smtputf8=True)
    return build_report(about, original)


def test_failures_are_understood_one_by_one(read):
    found = read(report_on(GONE, FULL))
    assert found["is_bounce"] == 1
    assert found["about"] == "<hello.there@example.org>"
    first, second = found["reports"]
    assert (first["email"], first["std_reason"], first["action"]) == ("bob@far.example", "user_unknown", "failed")
    assert (second["email"], second["std_reason"]) == ("eve@far.example", "over_quota")
    assert (first["status"], first["smtp_code"]) == ("5.1.1", "550")
    assert "No such user here" in first["reason"]
    assert "mail.example.test" in first["reporting-mta"]


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed"])
def test_what_is_no_failure_is_not_taken_for_one(read, action):
    """Mailing lists drop subscribers for what they take for a bounce."""
    one = (
        LATE
        if action == "delayed"
        else RecipientStatus("bob@far.example", action, "2.0.0", "", "mx.far.example", "250 ok")
    )
    assert read(report_on(one))["is_bounce"] == 0


def test_a_report_that_a_server_made_is_understood(read, house, sink, alice):
    with house.submission(alice) as session:
        session.sendmail(alice, ["refuse.read@elsewhere.example"], mail("refuse me", sender=alice))
    report = until(lambda: house.messages(alice))[0]
    (said,) = read(report)["reports"]
    assert (said["email"], said["std_reason"]) == ("refuse.read@elsewhere.example", "user_unknown")


@pytest.mark.parametrize("action", ["failed", "delayed", "delivered", "relayed"])
@pytest.mark.parametrize("utf8", [False, True])
def test_every_kind_of_report_is_a_sound_multipart_to_pythons_parser(action, utf8):
    """RFC 6522, RFC 3464 §2; in UTF-8 RFC 6533 §4, whose addresses are given as they are."""
    final = "bøb@far.example" if utf8 else "bob@far.example"
    one = RecipientStatus(
        final,
        action,
        "5.1.1" if action == "failed" else "2.0.0",
        "",
        "mx.far.example",
        "550 nö" if utf8 else "250 ok",
    )
    original = ORIGINAL.replace(b"hello there", "grüße".encode()) if utf8 else ORIGINAL
    data = report_on(one, utf8=utf8, original=original)
    report = email.message_from_bytes(data, policy=email.policy.SMTPUTF8)
    defects = [part.defects for part in report.walk() if part.defects]
    assert defects == []
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    kinds = [part.get_content_type() for part in report.get_payload()]
    assert kinds[:2] == ["text/plain", "message/global-delivery-status" if utf8 else "message/delivery-status"]
    status = data.split(b"\r\n\r\n")
    (fields,) = [
        block for block in status if block.startswith(b"Final-Recipient:") or b"\r\nFinal-Recipient:" in block
    ]
    given = dict(re.findall(r"^([\w-]+): (.*?)\r?$", fields.decode(), re.MULTILINE))
    assert given["Final-Recipient"] == f"{'utf-8' if utf8 else 'rfc822'}; {final}"
    assert given["Action"] == action
