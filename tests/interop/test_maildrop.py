"""Debian's maildrop as the transport of that name: a filter that sorts, refuses, and has trouble."""

import os
import pwd
import shutil
import smtplib
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import until
from tests.running import RunningServer

USER = "games" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
FILTER = """
if (/^Subject: refuse/)
{
  echo "5.7.1 not by this filter"
  EXITCODE=77
  exit
}
if (/^Subject: later/)
{
  EXITCODE=75
  exit
}
if (/^Delivered-To: .*\\+list@/)
  to "%(place)s/list"
to "%(place)s/Maildir/"
"""
CONFIGURATION = """
[transports.maildrop]
argv = ["%(maildrop)s", "-f", "${sender}", "%(place)s/filter"]
user = "%(user)s"
"""


@pytest.fixture
def house(need):
    maildrop = need("maildrop")
    place = Path(tempfile.mkdtemp(prefix="posthouse-maildrop-"))
    (place / "filter").write_text(FILTER % {"place": place})
    (place / "filter").chmod(0o600)
    for folder in ("Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp"):
        (place / folder).mkdir()
    if os.geteuid() == 0:
        for each in (place, *place.rglob("*")):
            shutil.chown(each, USER)
    running = RunningServer(place, CONFIGURATION % {"maildrop": maildrop, "place": place, "user": USER}, workers=1)
    running.cli("domain", "add", "example.test")
    running.cli("transport", "add", "drop.test", "maildrop:")
    running.start()
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(place)


def send(house, to, subject):
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        session.sendmail("you@example.org", [to], f"Subject: {subject}\r\n\r\nbody\r\n".encode())


def test_maildrop_sorts_refuses_and_puts_off(house):
    send(house, "joe@drop.test", "hello")
    send(house, "joe+list@drop.test", "sorted")
    send(house, "joe@drop.test", "refuse")
    send(house, "jim@drop.test", "later")
    (stored,) = until(lambda: list((house.directory / "Maildir/new").iterdir()))
    assert stored.read_text().startswith(
        "Return-Path: <you@example.org>\nDelivered-To: joe@drop.test\nReceived: from "
    )
    assert stored.owner() == USER
    listed = house.directory / "list"
    until(lambda: listed.exists() and "Subject: sorted\n" in listed.read_text())
    refused = house.wait_for("failed", recipient="joe@drop.test")["reply"]
    assert refused == "550 5.7.1 The transport maildrop failed (exit code 77): not by this filter"
    assert house.wait_for("deferred", recipient="jim@drop.test")["reply"].startswith("451 4.3.0 ")
