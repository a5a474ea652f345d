"""services/bounces.py; what a report looks like in detail is message/dsn.py's affair."""

import asyncio
import email
import os

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Reply
from posthouse.config.settings import QueuePolicy
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import MessageState, RecipientState
from posthouse.message.envelope import Envelope, Recipient
from posthouse.services.bounces import Bounces

TEXT = b"Subject: hi\r\nFrom: alice@example.test\r\n\r\nthe body\r\n"
BOB = Recipient("bob@d.example", orcpt="rfc822;old-bob@d.example")


def queued(tmp_path, *states, text=TEXT, sender="alice@example.test", recipients=None, **envelope):
    path = os.path.join(tmp_path, "message")
    with open(path, "wb") as file:
        file.write(text)
    recipients = recipients or tuple([BOB] * len(states))
    envelope = Envelope(sender, recipients, "t1", **envelope)
    return QueuedMessage("t1", envelope, 1_760_000_000.0, len(text), MessageState(list(states)), path, 0)


def report(message, places=(0,)):
    submitted = []

    async def submit(envelope, data):
        submitted.append((envelope, data))

    bounces = Bounces("mail.example", QueuePolicy(lifetime_seconds=432_000), FakeClock(), submit)
    asyncio.run(bounces.report(message, places))
    return submitted


def parsed(message, places=(0,)):
    ((envelope, data),) = report(message, places)
    return envelope, email.message_from_bytes(data)


def failed(**state):
    values = {"reply": Reply(550, "5.1.1", "no such user"), "remote": "mx.d.example", "last_attempt": 1_760_000_100.0}
    return RecipientState(status="failed", owed="failed", **(values | state))


def recipient_fields(notice):
    return notice.get_payload()[1].get_payload()[1]


def test_a_failure_is_reported_to_the_sender_from_the_null_sender(tmp_path):
    """RFC 3464 §2, RFC 5321 §6.1"""
    envelope, notice = parsed(queued(tmp_path, failed()))
    assert envelope.sender == ""
    assert [recipient.address for recipient in envelope.recipients] == ["alice@example.test"]
    assert envelope.trace_id != "t1"
    assert notice.get_content_type() == "multipart/report"
    fields = recipient_fields(notice)
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.1.1"
    assert fields["Final-Recipient"] == "rfc822; bob@d.example"
    assert fields["Original-Recipient"] == "rfc822; old-bob@d.example"
    assert fields["Remote-MTA"] == "dns; mx.d.example"
    assert "550 5.1.1 no such user" in fields["Diagnostic-Code"]
    assert "the body" in notice.get_payload()[2].as_string()


def test_only_the_recipients_in_question_are_reported(tmp_path):
    recipients = (Recipient("a@d.example"), Recipient("b@d.example"), Recipient("c@d.example"))
    message = queued(tmp_path, failed(), RecipientState(), failed(), recipients=recipients)
    _, notice = parsed(message, (0, 2))
    blocks = notice.get_payload()[1].get_payload()[1:]
    assert [block["Final-Recipient"] for block in blocks] == ["rfc822; a@d.example", "rfc822; c@d.example"]


def test_a_message_that_was_given_up_says_so(tmp_path):
    """RFC 3463 §3.5"""
    reply = Reply(451, "4.2.1", "greylisted")
    _, notice = parsed(queued(tmp_path, failed(reply=reply, expired=True)))
    assert recipient_fields(notice)["Action"] == "failed"
    assert recipient_fields(notice)["Status"] == "4.4.7"
    assert "greylisted" in recipient_fields(notice)["Diagnostic-Code"]


def test_a_delay_says_how_long_it_is_tried(tmp_path):
    state = RecipientState(owed="delayed", reply=Reply(451, "", "later"))
    _, notice = parsed(queued(tmp_path, state))
    fields = recipient_fields(notice)
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.0.0")
    assert "14 Oct 2025" in fields["Will-Retry-Until"]


@pytest.mark.parametrize("action", ["relayed", "delivered"])
def test_success_is_reported_with_the_headers_only(tmp_path, action):
    state = RecipientState(status="delivered", owed=action, reply=Reply(250, "2.0.0", "ok"), remote="mx.d.example")
    _, notice = parsed(queued(tmp_path, state))
    assert recipient_fields(notice)["Action"] == action
    assert recipient_fields(notice)["Status"] == "2.0.0"
    assert "the body" not in notice.as_string()


def test_a_large_message_does_not_come_back_whole(tmp_path):
    ((_, data),) = report(queued(tmp_path, failed(), text=TEXT + b"x" * 10_000_000))
    assert len(data) < 100_000
    assert b"Subject: hi" in data


def test_what_has_the_null_sender_is_reported_to_the_postmaster(tmp_path):
    envelope, notice = parsed(queued(tmp_path, failed(), sender=""))
    assert envelope.sender == ""
    assert [recipient.address for recipient in envelope.recipients] == ["postmaster@mail.example"]
    assert notice["To"] == "<postmaster@mail.example>"


def test_a_hostile_reply_stays_in_its_place(tmp_path):
    reply = Reply(550, "5.1.1", "no\n\nContent-Type: text/html\r\n\r\n--x")
    _, notice = parsed(queued(tmp_path, failed(reply=reply)))
    assert len(notice.get_payload()) == 3
    assert recipient_fields(notice)["Action"] == "failed"


def test_a_report_that_could_not_be_submitted_is_an_error(tmp_path):
    async def submit(envelope, data):
        raise OSError("disk full")

    bounces = Bounces("mail.example", QueuePolicy(), FakeClock(), submit)
    with pytest.raises(OSError, match="disk full"):
        asyncio.run(bounces.report(queued(tmp_path, failed()), (0,)))


def test_what_is_said_about_a_message_needs_the_tls_that_the_message_needed(tmp_path):
    """RFC 8689 §5; that of one that would rather go unprotected goes as any other."""
    for tls, expected in (("REQUIRED", "REQUIRED"), ("OPTIONAL", ""), ("", "")):
        ((envelope, _),) = report(queued(tmp_path, failed(), tls=tls))
        assert envelope.tls == expected
