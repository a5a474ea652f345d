"""XCLIENT: protocols/smtp/xclient.py and what the server engine makes of it."""

import pytest

from posthouse.base.errors import PeerError
from posthouse.protocols.smtp.events import Hello, MailFrom, XClient
from posthouse.protocols.smtp.server import SmtpServerEngine
from posthouse.protocols.smtp.states import ServerOptions
from posthouse.protocols.smtp.xclient import parse_xclient


def greeted(*, xclient: bool) -> SmtpServerEngine:
    engine = SmtpServerEngine(ServerOptions("h.example", xclient=xclient, require_auth=True))
    engine.greet()
    engine.receive(b"EHLO proxy.example\r\n")
    assert isinstance(engine.next_event(), Hello)
    engine.accept_hello()
    return engine


def test_attributes_are_decoded_and_what_is_unavailable_is_empty():
    given = b"ADDR=IPV6:2001:DB8::1 name=[UNAVAILABLE] HELO=a+20b LOGIN=u@x.example PORT=1 PROTO=ESMTP"
    assert parse_xclient(given) == XClient("2001:db8::1", "", "a b", "u@x.example")
    assert parse_xclient(b"ADDR=[TEMPUNAVAIL]") == XClient("", None, "", None)


@pytest.mark.parametrize("argument", [b"", b"ADDR", b"ADDR=nowhere", b"COLOUR=red", b"NAME=+ZZ", b"NAME=\xff"])
def test_a_bad_attribute_is_refused(argument):
    with pytest.raises(PeerError):
        parse_xclient(argument)


def test_after_it_the_session_starts_anew_as_who_the_proxy_says():
    engine = greeted(xclient=True)
    assert b"250-XCLIENT NAME ADDR" in engine.data_to_send()
    engine.receive(b"XCLIENT ADDR=192.0.2.1 LOGIN=u@x.example\r\nMAIL FROM:<u@x.example>\r\n")
    assert engine.next_event() == XClient("192.0.2.1", None, "", "u@x.example")
    engine.accept_xclient("u@x.example")
    engine.next_event()
    assert engine.data_to_send().startswith(b"220 h.example ESMTP Posthouse\r\n503 5.5.1 Send hello first")
    engine.receive(b"EHLO client.example\r\n")
    assert engine.next_event() == Hello("client.example", "EHLO")
    engine.accept_hello()
    engine.receive(b"MAIL FROM:<u@x.example>\r\n")
    assert isinstance(engine.next_event(), MailFrom)


def test_it_is_not_there_for_others():
    engine = greeted(xclient=False)
    assert b"XCLIENT" not in engine.data_to_send()
    engine.receive(b"XCLIENT ADDR=192.0.2.1\r\n")
    engine.next_event()
    assert engine.data_to_send().startswith(b"500 5.5.2")


def test_who_logs_out_by_it_has_to_log_in():
    engine = greeted(xclient=True)
    engine.authenticated = True
    engine.receive(b"XCLIENT LOGIN=\r\n")
    assert engine.next_event() == XClient("", None, "", "")
    engine.accept_xclient("")
    assert not engine.authenticated


def test_input_after_data_or_after_helo_runs_ahead_and_pipelined_commands_do_not():
    """RFC 2920 §3.1"""
    engine = SmtpServerEngine(ServerOptions("h.example"))
    engine.greet()
    engine.receive(b"EHLO c.example\r\nMAIL FROM:<>\r\nDATA\r\n")
    engine.next_event()
    engine.accept_hello()
    engine.next_event()
    assert not engine.has_run_ahead
    engine = SmtpServerEngine(ServerOptions("h.example"))
    engine.greet()
    engine.receive(b"HELO c.example\r\nMAIL FROM:<>\r\nRSET\r\n")
    engine.next_event()
    engine.accept_hello()
    engine.next_event()
    assert engine.has_run_ahead
