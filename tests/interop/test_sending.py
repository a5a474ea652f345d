"""swaks and curl hand mail in, every way there is; what is stored is octet for octet what was sent."""

import re
import smtplib
import sqlite3
from contextlib import closing

import pytest
from tests.interop.house import PASSWORD, House, mail, run, trusting, without_trace

WAYS = {
    "plain": ("smtp", []),
    "starttls": ("smtp", ["-tls"]),
    "lmtp": ("lmtp", ["--protocol", "LMTP"]),
    "pipelined": ("smtp", ["--pipeline"]),
    "pipelined-tls": ("smtp", ["-tls", "--pipeline"]),
    "utf8-names": ("smtp", ["--ehlo", "[127.0.0.1]"]),
}
PROTOCOLS = {"plain": "ESMTP", "starttls": "ESMTPS", "lmtp": "LMTP", "pipelined-tls": "ESMTPS"}

EIGHT_BIT = (
    b"From: =?utf-8?q?Andr=C3=A9?= <you@example.org>\r\nSubject: gr\xc3\xbc\xc3\x9fe \xe4\xf6\xfc\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".a line that begins with a dot\r\n..and two\r\n.\xf0\x9f\x93\xae\r\n\r\n \xff\xfe\r\nlast\r\n"
)
LARGE = mail("large", "0123456789 the quick brown fox jumps over the lazy dog .\r\n..dots\r\n" * 75_000)


@pytest.fixture
def swaks(need, house):
    """swaks against a service of the house; what it printed."""
    program = need("swaks")

    def send(service: str, *options: object, code: int | None = 0) -> str:
        return run(program, "--server", f"127.0.0.1:{house.ports[service]}", *options, code=code)

    return send


@pytest.fixture
def of_file(tmp_path):
    """The option with which swaks sends this very message; it adds the last line end itself."""

    def option(message: bytes) -> list[str]:
        (tmp_path / "data").write_bytes(message.removesuffix(b"\r\n"))
        return ["--data", f"@{tmp_path}/data"]

    return option


@pytest.fixture
def curl(need, house):
    program = need("curl")

    def send(scheme: str, service: str, *options: object, code: int | None = 0) -> str:
        url = f"{scheme}://127.0.0.1:{house.ports[service]}"
        return run(program, "-q", "-sS", "-k", "-v", url, *options, code=code)

    return send


def as_login(address: str, mechanism: str = "PLAIN") -> list[str]:
    return ["--auth", mechanism, "-au", address, "-ap", "secret"]


@pytest.mark.parametrize("way", WAYS)
def test_swaks_delivers(swaks, house, alice, of_file, way):
    service, options = WAYS[way]
    message = mail(f"by swaks {way}", "one\r\n.two\r\n")
    swaks(service, *options, "--from", "you@example.org", "--to", alice, *of_file(message))
    stored = house.only(alice)
    assert without_trace(stored) == message
    assert stored.startswith(f"Return-Path: <you@example.org>\r\nDelivered-To: {alice}\r\nReceived: from ".encode())
    if way in PROTOCOLS:
        assert f" with {PROTOCOLS[way]}\r\n".encode() in re.sub(rb" \(using [^)]*\)", b"", stored)


def test_one_message_reaches_both_of_its_recipients(swaks, house, alice, bob):
    swaks("smtp", "--from", "you@example.org", "--to", f"{alice},{bob}", "--header", "Subject: for both")
    first, second = house.only(alice), house.only(bob)
    assert first == second
    assert b"\r\nSubject: for both\r\n" in first


def test_an_unknown_recipient_is_refused_and_the_others_are_not(swaks, house, alice):
    out = swaks("smtp", "--from", "you@example.org", "--to", f"{alice},nobody@example.test", code=None)
    assert "<** 550 5.1.1 " in out
    assert len(house.messages(alice)) == 1


def test_lmtp_answers_once_for_each_recipient(swaks, house, alice, bob):
    """RFC 2033 §4.2."""
    to = f"{alice},nobody@example.test,{bob}"
    out = swaks("lmtp", "--protocol", "LMTP", "--from", "you@example.org", "--to", to, code=None)
    assert "<** 550 5.1.1 " in out
    assert len(re.findall(r"^<-  250 2\.0\.0 ", out, re.MULTILINE)) == 2
    assert len(house.messages(alice)) == len(house.messages(bob)) == 1


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_strangers_may_not_relay(swaks, service):
    protocol = ["--protocol", "LMTP"] if service == "lmtp" else []
    out = swaks(service, *protocol, "--from", "you@example.org", "--to", "them@elsewhere.example", code=24)
    assert ("<** 554 5.7.1 " if service == "smtp" else "<** 550 5.1.1 ") in out


def test_submission_wants_a_login(swaks, alice):
    out = swaks("submission", "-tls", "--from", alice, "--to", alice, code=23)
    assert "<~* 530 5.7.0 " in out


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("service", "tls"), [("submission", "-tls"), ("submissions", "-tlsc"), ("smtp", "-tls")])
def test_swaks_logs_in_and_sends(swaks, house, alice, bob, mechanism, service, tls):
    swaks(
        service, tls, *as_login(alice, mechanism), "--from", alice, "--to", bob, "--header", f"Subject: {mechanism}"
    )
    stored = house.only(bob)
    assert f"\r\nSubject: {mechanism}\r\n".encode() in stored
    assert b" with ESMTPSA" in stored


def test_a_wrong_password_and_an_unknown_login_sound_the_same(swaks, alice):
    line = ["-tlsc", "--auth", "PLAIN", "--from", alice, "--to", alice]
    answers = [
        re.findall(r"^<~\* .*$", swaks("submissions", *line, "-au", who, "-ap", "no", code=28), re.MULTILINE)
        for who in (alice, "nobody@example.test")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0].startswith("<~* 535 5.7.8 ")


def test_nobody_sends_as_somebody_else(swaks, house, alice, bob):
    out = swaks("submissions", "-tlsc", *as_login(alice), "--from", bob, "--to", bob, code=23)
    assert "<~* 553 5.7.1 " in out
    assert house.messages(bob) == []


@pytest.fixture
def houses_with_cram(tmp_path):
    running = House(tmp_path, '[auth]\nmechanisms = ["CRAM-MD5"]\n', workers=1)
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    with closing(sqlite3.connect(running.data / "posthouse.db")) as database, database:
        database.execute("UPDATE users SET clear = 'plain text' WHERE email = 'alice@example.test'")
    running.start()
    yield running
    running.stop()


def test_cram_md5_with_a_password_in_plain_text_put_in_by_sql(need, houses_with_cram):
    port = houses_with_cram.ports["submission"]
    line = [need("swaks"), "--server", f"127.0.0.1:{port}", "--auth", "CRAM-MD5", "-au", "alice@example.test"]
    send = ["--from", "alice@example.test", "--to", "alice@example.test"]
    assert " 235 2.7.0 " in run(*line, "-ap", "plain text", *send)
    assert " 535 5.7.8 " in run(*line, "-ap", "secret", *send, code=28)


@pytest.mark.parametrize(
    ("scheme", "service", "options"),
    [
        ("smtp", "smtp", []),
        ("smtp", "smtp", ["--ssl-reqd"]),
        ("smtp", "submission", ["--ssl-reqd", "--login-options", "AUTH=PLAIN"]),
        ("smtps", "submissions", ["--login-options", "AUTH=LOGIN"]),
    ],
)
def test_curl_delivers(curl, house, alice, bob, tmp_path, scheme, service, options):
    message = mail(f"by curl {scheme} {service}", ".\r\n..\r\n")
    (tmp_path / "message").write_bytes(message)
    login = [] if service == "smtp" else ["-u", f"{alice}:secret"]
    curl(scheme, service, *options, *login, "--mail-from", alice, "--mail-rcpt", bob, "-T", tmp_path / "message")
    assert without_trace(house.only(bob)) == message


def test_curl_is_told_that_the_mailbox_does_not_exist(curl, alice, tmp_path):
    (tmp_path / "message").write_bytes(mail("to nobody"))
    options = ["--mail-from", alice, "--mail-rcpt", "nobody@example.test", "-T", tmp_path / "message"]
    assert "< 550 5.1.1 " in curl("smtp", "smtp", *options, code=55)


def test_swaks_sends_eight_bit_octets_and_leading_dots(swaks, house, alice, of_file):
    swaks("smtp", "--from", "you@example.org", "--to", alice, *of_file(EIGHT_BIT))
    assert without_trace(house.only(alice)) == EIGHT_BIT


def test_curl_sends_eight_bit_octets_and_leading_dots(curl, house, alice, tmp_path):
    (tmp_path / "message").write_bytes(EIGHT_BIT)
    curl("smtp", "smtp", "--mail-from", "you@example.org", "--mail-rcpt", alice, "-T", tmp_path / "message")
    assert without_trace(house.only(alice)) == EIGHT_BIT


def test_swaks_sends_five_megabytes_to_two(swaks, house, alice, bob, of_file):
    swaks("smtp", "-tls", "--from", "you@example.org", "--to", f"{alice},{bob}", *of_file(LARGE))
    assert without_trace(house.only(alice)) == without_trace(house.only(bob)) == LARGE


def test_curl_sends_five_megabytes_to_two(curl, house, alice, bob, tmp_path):
    (tmp_path / "message").write_bytes(LARGE)
    recipients = ["--mail-rcpt", alice, "--mail-rcpt", bob]
    curl("smtp", "smtp", "--mail-from", "you@example.org", *recipients, "-T", tmp_path / "message")
    assert without_trace(house.only(alice)) == without_trace(house.only(bob)) == LARGE


def test_a_message_above_the_limit_is_refused_by_its_size(house, alice):
    """RFC 1870 §6.1: said at MAIL FROM, before a byte of it has travelled."""
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        session.ehlo()
        assert session.mail("you@example.org", ["SIZE=999999999"])[0] == 552


def test_smtplib_sends_with_smtputf8(house, alice):
    message = "Subject: Grüße\r\n\r\nÄÖÜ\r\n".encode()
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        session.starttls(context=trusting())
        session.sendmail("gülten@exämple.org", [alice], message, ["SMTPUTF8", "BODY=8BITMIME"])
    stored = house.only(alice)
    assert stored.startswith("Return-Path: <gülten@xn--exmple-cua.org>\r\n".encode())
    assert without_trace(stored) == message
    assert b" with UTF8SMTPS\r\n" in re.sub(rb" \(using [^)]*\)", b"", stored)


def test_who_logged_in_before_tls_is_nobody_after_it(house, alice):
    """RFC 3207 §4.2: what was said in clear, by whoever said it, counts no more."""
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        session.login(alice, PASSWORD)
        session.starttls(context=trusting())
        session.ehlo()
        session.mail(alice)
        assert session.rcpt("someone@elsewhere.example")[0] == 554
