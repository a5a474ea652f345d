"""A real Postfix lets people in by our accounts: smtpd_sasl_type = dovecot."""

import secrets
import smtplib
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import run, until
from tests.interop.neighbours import ALICE, BOB, Neighbour
from tests.interop.postfix import Postfix

from posthouse.protocols.sasl import client

MAIN = """\
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_error_sleep_time = 0
mynetworks =
smtpd_sender_login_maps = socketmap:unix:{lookups}:senders
smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch
"""


@pytest.fixture(scope="module")
def directory():
    """Where Postfix's user may go, which is not so with pytest's own."""
    with tempfile.TemporaryDirectory(prefix="posthouse-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def neighbour(directory):
    running = Neighbour(directory / "posthouse")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module", params=["unix", "inet"])
def postfix(request, need, directory, neighbour):
    need("postfix")
    over = {"unix": neighbour.sockets["dovecot_auth"], "inet": f"inet:127.0.0.1:{neighbour.ports['dovecot_auth']}"}
    main = MAIN.replace("{socket}", over[request.param]).replace("{lookups}", neighbour.sockets["socketmap"])
    with Postfix(directory / request.param, main) as running:
        yield running


def log_in(session: smtplib.SMTP, mechanism: str, login: str, password: str) -> int:
    """The code of the last reply."""
    exchange = client.mechanism(mechanism, login, password, nonce=secrets.token_bytes(18))

    def answer(challenge: bytes | None = None) -> str:
        return (exchange.initial() if challenge is None else exchange.respond(challenge)).decode()

    session.ehlo()
    try:
        return session.auth(mechanism, answer, initial_response_ok=exchange.initial() is not None)[0]
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code


def test_it_offers_what_posthouse_does(postfix):
    with postfix.session() as session:
        session.ehlo()
        assert set(session.esmtp_features["auth"].split()) == {"SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_the_right_password_and_no_other_lets_in(postfix, mechanism):
    with postfix.session() as session:
        assert log_in(session, mechanism, ALICE, "wrong") == 535
    with postfix.session() as session:
        assert log_in(session, mechanism, ALICE, "secret") == 235
        assert session.mail(ALICE)[0] == 250
        assert session.rcpt("somebody@example.org")[0] == 250, postfix.log


def test_a_password_that_is_not_stored_as_text_lets_in_too(postfix):
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        with postfix.session() as session:
            assert log_in(session, mechanism, BOB, "secret") == 235


def test_swaks_logs_in(need, postfix):
    options = ("--auth", "CRAM-MD5", "-au", ALICE, "--from", ALICE, "--to", "somebody@example.org", "-q", "RCPT")
    server = ("--server", f"127.0.0.1:{postfix.port}")
    assert " 235 2.7.0 " in run(need("swaks"), *server, *options, "-ap", "secret")
    assert " 535 5.7.8 " in run(need("swaks"), *server, *options, "-ap", "wrong", code=28)


def test_a_login_sends_as_itself_only(postfix):
    """smtpd_sender_login_maps, by the directory's word for it."""
    with postfix.session() as session:
        log_in(session, "PLAIN", ALICE, "secret")
        session.mail(BOB)
        assert session.rcpt("somebody@example.org")[0] == 553


def test_it_says_later_while_posthouse_is_away_and_goes_on_when_it_is_back(postfix, neighbour):
    with postfix.session() as session:
        session.ehlo()
        neighbour.stop()
        try:
            assert log_in(session, "PLAIN", ALICE, "secret") in (421, 454)
        finally:
            neighbour.start()
        until(lambda: can_log_in(postfix))


def can_log_in(postfix) -> bool:
    try:
        with postfix.session() as session:
            return log_in(session, "PLAIN", ALICE, "secret") == 235
    except (smtplib.SMTPException, OSError):  # a process of Postfix's that found nobody to ask
        return False


def test_posthouse_knows_whose_login_it_was(postfix, neighbour):
    before = len(neighbour.log)
    with postfix.session() as session:
        assert log_in(session, "CRAM-MD5", ALICE, "secret") == 235
    (line,) = [line for line in neighbour.log[before:] if line["event"] == "login"]
    assert (line["protocol"], line["account"], line["peer"]) == ("smtp", ALICE, "127.0.0.1")
