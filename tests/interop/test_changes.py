"""What an operator changes takes effect on the running server; what a client is doing survives its restarts."""

import imaplib
import signal
import smtplib
import socket
from contextlib import closing

import pytest
from tests.interop.house import PASSWORD, House, mail, until, without_trace

HOST = "127.0.0.1"


@pytest.fixture
def own_house(tmp_path):
    """A server that a test may change and stop."""
    running = House(tmp_path)
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    running.start()
    yield running
    assert running.stop() == 0


def reply_for(house: House, address: str) -> str:
    """What RCPT TO says to a stranger: code and enhanced code."""
    with smtplib.SMTP(HOST, house.ports["smtp"]) as session:
        session.ehlo()
        session.mail("you@example.org")
        code, text = session.rcpt(address)
        return f"{code} {text.decode().partition(' ')[0]}"


def may_log_in(house: House, address: str, password: str = PASSWORD) -> bool:
    with imaplib.IMAP4(HOST, house.ports["imap"], timeout=30) as session:
        refusal = ""
        try:
            session.login(address, password)
        except imaplib.IMAP4.error as error:
            refusal = str(error)
    assert not refusal or "[AUTHENTICATIONFAILED]" in refusal
    return not refusal


UNKNOWN, DENIED, FINE = "550 5.1.1", "554 5.7.1", "250 2.1.5"


def test_accounts_come_and_go_at_once(house):
    """Each state is asked for before the change, so that whatever remembers answers has one to forget."""
    carol = "carol@example.test"
    assert reply_for(house, carol) == UNKNOWN
    assert not may_log_in(house, carol)
    house.add_account(carol)
    assert reply_for(house, carol) == FINE
    assert may_log_in(house, carol)
    house.cli("account", "remove", carol)
    assert reply_for(house, carol) == UNKNOWN
    assert not may_log_in(house, carol)


def test_a_disabled_account_is_shut_at_once_and_opens_again(house, alice):
    assert may_log_in(house, alice)
    house.cli("account", "disable", alice)
    assert reply_for(house, alice) == UNKNOWN
    assert not may_log_in(house, alice)
    house.cli("account", "enable", alice)
    assert reply_for(house, alice) == FINE
    assert may_log_in(house, alice)


def test_a_new_password_is_valid_at_once_and_the_old_one_no_more(house, alice):
    assert may_log_in(house, alice)
    house.cli("account", "passwd", alice, "--password-stdin", stdin="another\n")
    assert not may_log_in(house, alice)
    assert may_log_in(house, alice, "another")


def test_aliases_and_domains_come_and_go_at_once(house, alice):
    assert reply_for(house, "info@new.test") == DENIED
    house.cli("domain", "add", "new.test")
    assert reply_for(house, "info@new.test") == UNKNOWN
    house.cli("alias", "add", "info@new.test", alice)
    assert reply_for(house, "info@new.test") == FINE
    house.deliver("info@new.test", mail("by alias"))
    assert without_trace(house.only(alice)) == mail("by alias")
    house.cli("alias", "remove", "info@new.test")
    assert reply_for(house, "info@new.test") == UNKNOWN
    house.cli("domain", "remove", "new.test")
    assert reply_for(house, "info@new.test") == DENIED


class Idling:
    """An IMAP session that idles."""

    def __init__(self, house: House, address: str) -> None:
        self.socket = house.connect("imap")
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.say(b"a LOGIN " + address.encode() + b" " + PASSWORD.encode(), b"a OK")
        self.say(b"b SELECT INBOX", b"b OK")
        self.say(b"c IDLE", b"+ ")

    def say(self, line: bytes, answer: bytes) -> list[bytes]:
        self.socket.sendall(line + b"\r\n")
        return self.wait(answer)

    def wait(self, start: bytes) -> list[bytes]:
        """What comes up to the line that starts so, which is the last."""
        heard = []
        while line := self.lines.readline():
            heard.append(line)
            if line.startswith(start):
                return heard
        raise AssertionError(f"{start!r} never came: {heard}")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def idling(house, alice):
    """More idling sessions than there are workers, so that not all can be with the one who delivers."""
    sessions = [Idling(house, alice) for _ in range(6)]
    yield sessions
    for session in sessions:
        session.close()


def test_a_delivery_shows_up_on_every_idling_session(house, alice, idling):
    house.deliver(alice, mail("wake up"))
    for session in idling:
        session.wait(b"* 1 EXISTS")
        session.say(b"DONE", b"c OK")


def test_what_another_session_does_shows_up_while_idling(house, alice, idling):
    house.deliver(alice, mail("one"), mail("two"))
    for session in idling:
        session.wait(b"* 2 EXISTS")
    with house.imap(alice) as other:
        other.store("2", "+FLAGS", r"(\Flagged)")
        for session in idling:
            assert b"\\Flagged" in session.wait(b"* 2 FETCH")[-1]
        other.store("1", "+FLAGS", r"(\Deleted)")
        other.expunge()
    for session in idling:
        session.wait(b"* 1 EXPUNGE")


def test_a_reload_takes_new_settings_and_breaks_no_transaction(own_house):
    house = own_house
    with closing(smtplib.SMTP(HOST, house.ports["smtp"])) as session:
        session.ehlo()
        session.mail("you@example.org")
        session.rcpt("alice@example.test")
        session.docmd("DATA")
        settings = house.configuration.read_text()
        house.configuration.write_text(settings.replace("[listen]", "[smtp]\nmax_size_bytes = 100000\n[listen]"))
        house.process.send_signal(signal.SIGHUP)
        house.wait_for("reloaded")
        session.send(mail("across a reload") + b".\r\n")
        assert session.getreply()[0] == 250
        # The process with the old settings lets nobody stay.
        assert session.getreply()[0] == 421
        # While that one still has its journal, every other connection meets the new processes.
        assert not [line for line in house.log if line.get("level") == "error"]
    with smtplib.SMTP(HOST, house.ports["smtp"]) as session:
        session.ehlo()
        assert session.esmtp_features["size"] == "100000"
    assert without_trace(house.only("alice@example.test")) == mail("across a reload")


def test_a_reload_with_a_broken_configuration_changes_nothing(own_house):
    house = own_house
    house.configuration.write_text(house.configuration.read_text() + "\nnonsense = 1\n")
    pids = house.pids()
    house.process.send_signal(signal.SIGHUP)
    assert "nonsense" in house.wait_for("reload-refused")["reason"]
    assert house.pids() == pids
    assert reply_for(house, "alice@example.test") == FINE


def test_a_stop_says_goodbye_to_idlers_and_lets_a_message_finish(own_house):
    house = own_house
    with (
        closing(Idling(house, "alice@example.test")) as idler,
        house.connect("smtp") as waiting,
        closing(smtplib.SMTP(HOST, house.ports["smtp"])) as session,
    ):
        waiting.recv(1000)
        session.ehlo()
        session.mail("you@example.org")
        session.rcpt("alice@example.test")
        session.docmd("DATA")
        session.send(b"Subject: half\r\n")
        house.process.send_signal(signal.SIGTERM)
        idler.wait(b"* BYE")
        assert waiting.recv(1000).startswith(b"421 4.3.2 ")
        until(lambda: refuses(house.ports["smtp"]))
        session.send(b"\r\nwhole\r\n.\r\n")
        assert session.getreply()[0] == 250
        # Then this session is told as well.
        assert session.getreply()[0] == 421
    assert house.process.wait(30) == 0
    (stored,) = (house.data / "mail" / "example.test" / "alice" / "new").iterdir()
    assert stored.read_bytes().endswith(b"Subject: half\n\nwhole\n")
    assert house.log[-1]["event"] == "stopped"


def refuses(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
