"""Milters that hand mail on to a scanner: clamav-milter before clamd, spamass-milter before spamd."""

import smtplib
import tempfile
from pathlib import Path

import pytest
from tests.interop.clamd import EICAR, Clamd
from tests.interop.milters import Program
from tests.interop.spamd import TEST_STRING, start_spamd
from tests.running import RunningServer

HEAD = b"From: a@far.example\r\nTo: bob@example.test\r\nSubject: hello\r\nMessage-ID: <1@far.example>\r\n\r\n"


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def clamav(need, place):
    program, socket, config = need("clamav-milter"), place / "clamav-milter.sock", place / "clamav-milter.conf"
    (place / "clamd").mkdir()
    clamd = Clamd(need("clamd"), place / "clamd").start()
    config.write_text(
        f"MilterSocket unix:{socket}\nMilterSocketMode 666\nClamdSocket unix:{clamd.path}\n"
        f"Foreground yes\nUser root\nOnInfected Reject\nAddHeader Replace\nTemporaryDirectory {place}\n"
    )
    running = Program([program, "-c", str(config)], socket, place / "clamav-milter.log")
    yield socket
    running.stop()
    clamd.stop()


@pytest.fixture(scope="module")
def spamassassin(need, place):
    program, socket = need("spamass-milter"), place / "spamass.sock"
    spamd = start_spamd(need("spamd"), place / "spamd")
    command = [program, "-p", str(socket), "--", "-d", "127.0.0.1", "-p", str(spamd.address)]
    running = Program(command, socket, place / "spamass-milter.log")
    yield socket
    running.stop()
    spamd.stop()


@pytest.fixture(scope="module")
def house(clamav, spamassassin, tmp_path_factory):
    tables = "".join(
        f'[milters.{name}]\naddress = "unix:{socket}"\n'
        for name, socket in (("clamav", clamav), ("spam", spamassassin))
    )
    running = RunningServer(tmp_path_factory.mktemp("house"), tables, workers=1)
    running.cli("domain", "add", "example.test")
    running.add_account("bob@example.test")
    running.start()
    yield running
    running.stop()


def sent(house: RunningServer, body: bytes) -> bytes:
    """The message as it is delivered, or why it is not."""
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"], timeout=60) as smtp:
        smtp.ehlo("client.far.example")
        smtp.mail("a@far.example")
        smtp.rcpt("bob@example.test")
        code, text = smtp.data(HEAD + body)
    if code != 250:
        return b"%d %b" % (code, text)
    trace = text.rpartition(b" ")[2]
    folder = house.data / "mail" / "example.test" / "bob" / "new"
    return next(message for path in folder.iterdir() if trace in (message := path.read_bytes()))


def test_clamav_milter_refuses_a_virus(house):
    assert sent(house, EICAR.encode() + b"\r\n").startswith(b"550 5.7.1")


def test_both_say_in_its_header_what_they_think_of_a_message(house):
    clean, spam = sent(house, b"hello\r\n"), sent(house, TEST_STRING + b"\r\n")
    assert b"\nX-Virus-Status: Clean" in clean
    assert b"\nX-Spam-Status: No" in clean
    assert b"\nX-Spam-Flag: YES" in spam
    assert b"TEST_STRING" in spam.partition(b"\n\n")[0]
