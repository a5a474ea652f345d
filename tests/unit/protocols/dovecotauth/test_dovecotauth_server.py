"""The server of Dovecot's auth protocol, against what Dovecot 2.3 and its documentation say."""

import itertools

import pytest

from posthouse.protocols.dovecotauth import server
from posthouse.protocols.dovecotauth.events import Auth, Cancel, Continue
from posthouse.protocols.dovecotauth.lines import join, split
from posthouse.protocols.dovecotauth.server import DovecotAuthEngine
from posthouse.protocols.engine import NEED_DATA

HELLO = b"VERSION\t1\t1\nCPID\t4711\n"
POSTFIX = b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=192.0.2.1\tsecured\tresp=AGEAYg==\n"


def make(*mechanisms):
    return DovecotAuthEngine(mechanisms or ("PLAIN", "LOGIN"), process_id=7, connection_id=3, cookie="c" * 32)


def greeted():
    engine = make()
    engine.data_to_send()
    engine.receive(HELLO)
    return engine


def events(engine):
    return list(itertools.takewhile(lambda event: event is not NEED_DATA, iter(engine.next_event, None)))


def after(engine, data):
    engine.receive(data)
    return events(engine)


def test_the_handshake_is_what_dovecot_prints():
    """Recorded from Dovecot 2.3.19, but for its numbers."""
    engine = make("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")
    assert engine.data_to_send() == (
        b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\n"
        b"MECH\tSCRAM-SHA-1\tmutual-auth\nMECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tXOAUTH2\tplaintext\n"
        b"MECH\tOAUTHBEARER\tplaintext\nSPID\t7\nCUID\t3\nCOOKIE\t" + b"c" * 32 + b"\nDONE\n"
    )


def test_a_login_as_postfix_asks_for_it():
    engine = greeted()
    assert after(engine, POSTFIX) == [Auth(1, "PLAIN", "smtp", "192.0.2.1", True, b"\0a\0b")]
    engine.accept(1, "a@example.test")
    assert engine.data_to_send() == b"OK\t1\tuser=a@example.test\n"


def test_a_login_with_challenges():
    engine = greeted()
    assert after(engine, b"AUTH\t2\tlogin\tservice=imap\n") == [Auth(2, "LOGIN", "imap", "", False, None)]
    engine.challenge(2, b"Username:")
    assert engine.data_to_send() == b"CONT\t2\tVXNlcm5hbWU6\n"
    assert after(engine, b"CONT\t2\tYQ==\n") == [Continue(2, b"a")]
    engine.challenge(2, b"")
    assert after(engine, b"CONT\t2\t\n") == [Continue(2, b"")]
    engine.refuse(2, user="a")
    assert engine.data_to_send() == b"CONT\t2\t\nFAIL\t2\tuser=a\n"


def test_logins_are_answered_in_any_order():
    engine = greeted()
    asked = after(engine, b"AUTH\t1\tPLAIN\nAUTH\t2\tPLAIN\nAUTH\t3\tPLAIN\n")
    assert [event.id for event in asked] == [1, 2, 3]
    engine.accept(3, "c")
    engine.refuse(1, temporary=True, code="temp_fail", reason="Later")
    engine.accept(2, "b")
    assert engine.data_to_send() == (b"OK\t3\tuser=c\nFAIL\t1\ttemp\tcode=temp_fail\treason=Later\nOK\t2\tuser=b\n")


def test_a_login_is_answered_once():
    engine = greeted()
    after(engine, POSTFIX)
    engine.refuse(1)
    engine.accept(1, "a")
    assert engine.data_to_send() == b"FAIL\t1\n"


def test_a_cancelled_login_has_no_answer():
    engine = greeted()
    after(engine, POSTFIX)
    assert after(engine, b"CANCEL\t1\n") == [Cancel(1)]
    engine.accept(1, "a")
    assert engine.data_to_send() == b""


@pytest.mark.parametrize("secured", ["secured", "secured=tls"])
def test_a_connection_is_secured_where_the_client_says_so(secured):
    (event,) = after(greeted(), f"AUTH\t1\tPLAIN\t{secured}\n".encode())
    assert event.secured


def test_what_is_not_base64_fails_that_login_alone():
    engine = greeted()
    assert after(engine, b"AUTH\t1\tPLAIN\tresp=a\nAUTH\t2\tLOGIN\n") == [Auth(2, "LOGIN", "", "", False, None)]
    engine.challenge(2, b"")
    engine.data_to_send()
    assert after(engine, b"CONT\t2\t!!!\nCONT\t2\tYQ==\n") == [Cancel(2)]
    answers = engine.data_to_send().split(b"\n")
    assert [answer[:7] for answer in answers] == [b"FAIL\t2\t", b"FAIL\t2\t", b""]
    assert not engine.closed


def test_commands_of_later_versions_are_passed_over():
    engine = greeted()
    assert after(engine, b"NEWS\tfrom\t2030\n" + POSTFIX.replace(b"nologin", b"mood=good"))[0].id == 1


@pytest.mark.parametrize(
    "data",
    [
        b"CPID\t1\n",
        b"VERSION\t2\t0\n",
        b"VERSION\n",
        b"\n",
        HELLO + b"CPID\t1\n",
        HELLO + b"VERSION\t1\t1\n",
        b"VERSION\t1\t1\nAUTH\t1\tPLAIN\n",
        HELLO + b"AUTH\n",
        HELLO + b"AUTH\t-1\tPLAIN\n",
        HELLO + b"AUTH\t99999999999\tPLAIN\n",
        HELLO + b"AUTH\t\xb2\tPLAIN\n",
        HELLO + b"AUTH\t1\n",
        HELLO + b"AUTH\t1\tPLAIN\nAUTH\t1\tPLAIN\n",
        HELLO + b"AUTH\t1\tPLAIN\nCONT\t1\t\n",
        HELLO + b"CONT\tx\n",
        HELLO + b"x" * server.MAX_LINE,
    ],
)
def test_what_is_not_the_protocol_closes_the_connection(data):
    engine = make()
    after(engine, data)
    assert engine.closed
    assert engine.error
    assert after(engine, HELLO + POSTFIX) == []


def test_a_client_that_owes_a_response_makes_room_for_the_next():
    """Postfix doesn't say when its client goes away in the middle of an exchange."""
    engine = greeted()
    for number in range(server.MAX_REQUESTS):
        after(engine, b"AUTH\t%d\tLOGIN\n" % number)
        engine.challenge(number, b"")
    engine.data_to_send()
    auth, cancel = after(engine, POSTFIX.replace(b"\t1\t", b"\t999\t", 1))
    assert (auth.id, cancel) == (999, Cancel(0))
    after(engine, b"CONT\t0\t\n")
    assert engine.data_to_send().startswith(b"FAIL\t0\t")


def test_too_many_logins_at_once_fail_for_now():
    engine = greeted()
    after(engine, b"".join(b"AUTH\t%d\tPLAIN\n" % number for number in range(server.MAX_REQUESTS)))
    assert after(engine, b"AUTH\t999\tPLAIN\n") == []
    assert engine.data_to_send().startswith(b"FAIL\t999\ttemp\tcode=temp_fail\t")


def test_any_segmentation_gives_the_same_events():
    data = HELLO + POSTFIX + b"AUTH\t2\tLOGIN\tservice=im\x01tap\nCANCEL\t2\nCONT\t9\tYQ==\nNEWS\r\nAUTH\tx\n"

    def run(size):
        engine, seen = make(), []
        for start in range(0, len(data), size):
            seen += after(engine, data[start : start + size])
        return seen, engine.data_to_send(), engine.error

    whole = run(len(data))
    assert len(whole[0]) == 3
    assert all(run(size) == whole for size in range(1, len(data)))


def test_words_keep_whatever_is_in_them():
    words = ["a\tb", "", "\x01", "line\nend\r", "nul\0", "user=\x01t"]
    assert join(words).count("\n") == 1
    assert split(join(words)[:-1]) == words
    assert split("\x01l\x01x\x01") == ["\nx"]


def test_words_are_escaped_as_dovecot_does():
    """Recorded from Dovecot 2.3.19, whose documentation has another letter for LF."""
    recorded = "FAIL\t1\tuser=a\x01tb\x01nc\x01rd\x011e@example.test\n"
    assert join(["FAIL", "1", "user=a\tb\nc\rd\x01e@example.test"]) == recorded
