"""Postfix, Exim and OpenSMTPD send to us and we to them, with STARTTLS and without: what arrives is what was sent."""

import contextlib
import email
import email.policy
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop.house import House, mail, until, without_trace
from tests.interop.peers import KINDS, Peer
from tests.interop.postfix import Postfix
from tests.interop.sink import Sink, Taken

ALICE, BOB = "alice@example.test", "bob@example.test"
BODY = (
    "a line that is =3D no quoted-printable\r\n.begins with a dot\r\n..and two\r\n.\r\n\r\n \r\nFrom here on\r\n"
    "\tan umlaut ü and a 📮 and a long line " + "x" * 900 + "\r\n\r\n\r\nthe end \r\n"
)
LARGE = "0123456789 the quick brown fox jumps over the lazy dog .\r\n..dots\r\n" * 30_000


@dataclass
class Neighbour:
    """A peer; mail for its ``domain`` goes through it to ``sink``."""

    kind: str
    tls: bool
    domain: str
    server: Peer | Postfix
    sink: Sink

    def taken(self, local: str) -> Taken:
        """The only message that has come through for somebody, who nobody else writes to."""
        (message,) = until(lambda: self.sink.taken_for(f"{local}@{self.domain}"))
        return message

    def report(self, local: str) -> email.message.EmailMessage:
        message = self.taken(local)
        assert message.sender.startswith("<>")
        return email.message_from_bytes(message.data, policy=email.policy.default)

    def hand_in(self, sender: str, to: list[str], message: bytes, options=(), ask=()) -> None:
        with self.server.session() as session:
            session.sendmail(f"{sender}@{self.domain}", to, message, options, ask)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    running = House(tmp_path_factory.mktemp("us"), workers=1)
    running.cli("domain", "add", "example.test")
    for address in (ALICE, BOB):
        running.add_account(address)
    running.start()
    yield running
    code = running.stop()
    assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


@pytest.fixture(scope="module", params=[f"{kind}-{way}" for kind in KINDS for way in ("clear", "tls")])
def peer(request, need, house):
    kind, _, way = request.param.partition("-")
    if kind == "postfix":
        need("postfix")
    domain = f"{request.param}.test"
    with Sink(offers=("SMTPUTF8",)) as sink, tempfile.TemporaryDirectory(prefix="posthouse-peer-") as place:
        Path(place).chmod(0o755)  # their processes have users of their own
        directory = Path(place) / "root"
        directory.mkdir()
        server = KINDS[kind](directory, domain, house.ports["smtp"], sink.port, tls=way == "tls")
        house.cli("transport", "add", domain, f"smtp:[127.0.0.1]:{server.port}")
        with server:
            yield Neighbour(kind, way == "tls", domain, server, sink)


@pytest.fixture(autouse=True)
def _empty(house):
    """Every test begins with empty mailboxes."""
    for address in (ALICE, BOB):
        with house.imap(address) as session:
            session.store("1:*", "+FLAGS", r"\Deleted") if house.messages(address) else None
            session.expunge()


def send(house, to: list[str], message: bytes, options=(), ask=()) -> None:
    with house.submission(ALICE) as session:
        session.sendmail(ALICE, to, message, options, ask)


def fields_of(report, place: int = 1):
    return report.get_payload()[1].get_payload()[place]


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["odd", "large"])
def test_what_we_send_them_arrives_octet_for_octet_for_all_its_recipients(house, peer, body):
    message = mail("to you", body, sender=ALICE)
    names = [f"{each}{len(body)}" for each in ("one", "two", "three")]
    send(house, [f"{name}@{peer.domain}" for name in names], message, ["BODY=8BITMIME"])
    for name in names:
        taken = peer.taken(name)
        assert taken.data.endswith(message)
    assert len(peer.taken(names[0]).recipients) == 3  # in one transaction
    theirs = re.match(rb"Received: from (?:[^\r]|\r\n[ \t])*", taken.data)[0]
    assert b"mail.example.test" in theirs
    # Debian 12's OpenSMTPD offers STARTTLS and breaks every handshake (its issue 1239): mail goes in clear then.
    if peer.kind != "opensmtpd":
        assert bool(re.search(rb"esmtps|using TLS", theirs, re.IGNORECASE)) == peer.tls


def test_what_we_are_asked_to_report_is_passed_along_to_them(house, peer):
    """RFC 3461 §5.2.1. They pass it on to the sink in their turn."""
    send(
        house,
        [f"along@{peer.domain}"],
        mail("along", sender=ALICE),
        ["RET=HDRS", "ENVID=QQ+2B314"],
        ["NOTIFY=SUCCESS,DELAY", f"ORCPT=rfc822;first@{peer.domain}"],
    )
    taken = peer.taken("along")
    assert {"RET=HDRS", "ENVID=QQ+2B314"} <= set(taken.sender.split()), taken
    (recipient,) = taken.recipients
    assert re.search(r"NOTIFY=(SUCCESS,DELAY|DELAY,SUCCESS)", recipient), taken
    assert f"ORCPT=rfc822;first@{peer.domain}" in recipient


def test_who_they_refuse_is_told_by_us_and_the_others_get_it(house, peer):
    message = mail("refused", sender=ALICE)
    send(house, [f"gone@{peer.domain}", f"fine@{peer.domain}"], message)
    assert peer.taken("fine").data.endswith(message)
    report = email.message_from_bytes(until(lambda: house.messages(ALICE))[0], policy=email.policy.default)
    refused = fields_of(report)
    assert refused["Final-Recipient"] == f"rfc822; gone@{peer.domain}"
    assert refused["Action"] == "failed"
    assert refused["Status"].startswith("5.")
    assert refused["Diagnostic-Code"].startswith("smtp; 550 ")
    assert len(report.get_payload()[1].get_payload()) == 2


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["odd", "large"])
def test_what_they_send_us_arrives_octet_for_octet_in_all_its_mailboxes(house, peer, body):
    message = mail("to us", body)
    peer.hand_in("sender", [ALICE, BOB], message, ["BODY=8BITMIME"])
    for address in (ALICE, BOB):
        stored = until(lambda address=address: house.messages(address))[0]
        assert without_trace(stored) == message
        assert stored.startswith(f"Return-Path: <sender@{peer.domain}>\r\n".encode())
        ours = re.search(rb"\r\nReceived: from (?:[^\r]|\r\n[ \t])*", stored)[0]
        assert (b"with ESMTPS" in ours) == peer.tls


def test_who_we_refuse_is_told_by_them_and_the_others_get_it(house, peer):
    message = mail("nobody")
    peer.hand_in("told", ["nobody@example.test", BOB], message)
    assert without_trace(until(lambda: house.messages(BOB))[0]) == message
    told = peer.taken("told")
    assert told.sender.startswith("<>")
    assert b"nobody@example.test" in told.data
    assert b"550 5.1.1" in re.sub(rb"\s+", b" ", told.data)


def test_success_is_reported_to_them_where_they_ask_for_it(house, peer):
    """RFC 3461 §4.1, RFC 3464: the parameters come with the message, and the report goes back through them."""
    asked = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bobby@example.test"]
    peer.hand_in("asks", [BOB], mail("tell me"), ["ENVID=QQ314", "RET=HDRS"], asked)
    report = peer.report("asks")
    about, recipient = fields_of(report, 0), fields_of(report)
    assert about["Reporting-MTA"] == "dns; mail.example.test"
    assert about["Original-Envelope-Id"] == "QQ314"
    assert recipient["Action"] == "delivered"
    assert recipient["Final-Recipient"] == f"rfc822; {BOB}"
    assert recipient["Original-Recipient"] == "rfc822; Bobby@example.test"
    assert report.get_payload()[2].get_content_type() == "text/rfc822-headers"


def test_addresses_in_utf8_go_where_they_are_offered_and_come_back_otherwise(house, peer):
    """RFC 6531 §3.2, §3.4: OpenSMTPD does not offer SMTPUTF8."""
    message = mail("utf8", "ÄÖÜ\r\n", sender=ALICE)
    send(house, [f"jürgen@{peer.domain}"], message, ["SMTPUTF8", "BODY=8BITMIME"])
    if peer.kind != "opensmtpd":
        (taken,) = until(lambda: [each for each in peer.sink.taken if "SMTPUTF8" in each.sender])
        assert taken.data.endswith(message)
        with contextlib.suppress(UnicodeError):
            assert "jürgen@" in taken.recipients[0].encode("latin-1").decode()
        return
    stored = until(lambda: house.messages(ALICE))[0]
    assert b"5.6.7" in stored
    assert "jürgen@".encode() in stored
    assert b"message/global-delivery-status" in stored


def test_senders_in_utf8_reach_us(house, peer):
    if peer.kind == "opensmtpd":
        pytest.skip("OpenSMTPD does not offer SMTPUTF8")
    message = (
        "Subject: Grüße\r\nMessage-ID: <v@x.org>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nÄÖÜ\r\n".encode()
    )
    peer.hand_in("jürgen", [BOB], b"From: a@example.org\r\n" + message, ["SMTPUTF8", "BODY=8BITMIME"])
    stored = until(lambda: house.messages(BOB))[0]
    assert stored.startswith(f"Return-Path: <jürgen@{peer.domain}>\r\n".encode())
    assert stored.endswith(message)
