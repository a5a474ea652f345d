"""The client asks for a recipient without having a message."""

import pytest
from tests.unit.protocols.smtp.test_smtp_client import ALL, EHLO, begun

from posthouse.base.errors import Reply
from posthouse.message.envelope import Recipient
from posthouse.protocols.smtp.client_events import RecipientReply, SendBody
from posthouse.protocols.smtp.transaction import TransactionRequest

PROBE = TransactionRequest("", (Recipient("alice@example.net"),), is_probe=True)
COMMANDS = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.net>\r\n"


@pytest.mark.parametrize("ehlo", [EHLO, ALL])
def test_a_probe_ends_before_data_and_the_next_one_begins_by_a_reset(ehlo):
    client, said = begun(PROBE, PROBE, ehlo=ehlo)
    assert said == COMMANDS
    assert client.hear(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n") == b"RSET\r\n" + COMMANDS
    assert client.hear(b"250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n") == b"QUIT\r\n"
    replies = [event.reply for event in client.events if isinstance(event, RecipientReply)]
    assert replies == [Reply(250, "2.1.5", "Ok"), Reply(550, "5.1.1", "No")]
    assert not any(isinstance(event, SendBody) for event in client.events)


def test_a_probe_waits_for_each_reply_without_pipelining():
    client, said = begun(PROBE, ehlo=b"250 mx\r\n")
    assert said == b"MAIL FROM:<>\r\n"
    assert client.hear(b"250 Ok\r\n") == b"RCPT TO:<alice@example.net>\r\n"
    assert client.hear(b"250 Ok\r\n") == b"QUIT\r\n"


def test_where_the_server_does_not_take_mail_nothing_is_known_of_the_recipient():
    client, _ = begun(PROBE)
    client.hear(b"550 5.7.1 No bounces\r\n503 5.5.1 MAIL first\r\n")
    assert [reply.code for reply in client.outcomes[-1]] == [550]
    assert not any(isinstance(event, RecipientReply) for event in client.events)
