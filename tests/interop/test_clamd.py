"""A virus comes by SMTP, and a real clamd finds it."""

import base64
import re
import smtplib

import pytest
from tests.interop.clamd import EICAR, SIGNATURE, Clamd
from tests.running import RunningServer

CLEAN = b"From: eve@evil.test\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nNothing in it.\r\n"
VIRUS = (
    b"From: eve@evil.test\r\nTo: alice@example.test\r\nSubject: invoice\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n"
    b"--b\r\nContent-Type: application/octet-stream; name=invoice.com\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(EICAR.encode()).replace(b"\n", b"\r\n")
    + b"--b--\r\n"
)


@pytest.fixture(scope="module")
def clamd(need, tmp_path_factory):
    running = Clamd(need("clamd"), tmp_path_factory.mktemp("clamd")).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def house(clamd, tmp_path_factory):
    configuration = f'[filters.clamav]\nkind = "clamd"\nservers = ["{clamd.socket}"]\n'
    running = RunningServer(tmp_path_factory.mktemp("house"), configuration, workers=1)
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    running.add_account("bob@example.test")
    running.start()
    yield running
    running.stop()


def send(house, message: bytes, *recipients: str, sender: str = "eve@evil.test") -> None:
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"], timeout=60) as client:
        client.sendmail(sender, recipients, message)


def delivered(house, account: str) -> list[bytes]:
    name, _, domain = account.partition("@")
    folder = house.data / "mail" / domain / name / "new"
    return [path.read_bytes() for path in folder.glob("*")]


def test_a_virus_is_refused_while_its_sender_listens_and_clean_mail_is_not(house):
    send(house, CLEAN, "alice@example.test")
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        send(house, VIRUS, "alice@example.test")
    assert refusal.value.smtp_code == 550
    assert SIGNATURE.encode() in refusal.value.smtp_error
    (message,) = delivered(house, "alice@example.test")
    assert b"Nothing in it." in message
    line = house.wait_for("filtered", action="reject")
    assert any(re.search(rf"clamav: virus {SIGNATURE}.*: reject \(default\)", reason) for reason in line["reasons"])
    assert house.wait_for("refused")["reply"].startswith("550 5.7.1 Message refused: virus ")
