"""Guessing passwords at a running server: who does is shut out, by every worker and protocol, and nobody else is."""

import json
import poplib
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.running import RunningServer

ALICE = "alice@example.test"
ATTACKER = "127.0.0.66"
ELSEWHERE = "127.0.0.77"
BLOCK_AFTER = 3
GUARD = f"[guard]\nblock_after = {BLOCK_AFTER}\nexempt_networks = []\n"


@pytest.fixture
def server(tmp_path):
    running = RunningServer(tmp_path, GUARD)
    running.cli("domain", "add", "example.test")
    running.add_account(ALICE)
    running.start()
    yield running
    assert running.stop() == 0


def submit(server: RunningServer, source: str, password: str) -> tuple[int, bytes]:
    """What the submission service says to a login from that address."""
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=60, source_address=(source, 0)) as client:
        client.ehlo()
        client.user, client.password = ALICE, password
        return client.auth("PLAIN", client.auth_plain, initial_response_ok=True)


def imap(server: RunningServer, source: str, password: str) -> bytes:
    address = ("127.0.0.1", server.ports["imap"])
    with socket.create_connection(address, timeout=60, source_address=(source, 0)) as connection:
        with connection.makefile("rb") as answers:
            answers.readline()
            connection.sendall(f"a LOGIN {ALICE} {password}\r\n".encode())
            return answers.readline()


def test_who_guesses_is_shut_out_until_the_operator_lets_them_in(server):
    with ThreadPoolExecutor(BLOCK_AFTER) as threads:
        guesses = [f"guess{number}" for number in range(BLOCK_AFTER)]
        answers = list(threads.map(lambda guess: imap(server, ATTACKER, guess), guesses))
    assert all(answer.startswith(b"a NO [AUTHENTICATIONFAILED]") for answer in answers), answers
    blocked = server.wait_for("guard-blocked")
    assert (blocked["what"], blocked["name"], blocked["login"]) == ("address", ATTACKER, ALICE)

    # By every protocol, with the right password too.
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        submit(server, ATTACKER, "secret")
    text = b"Too many failed logins from your address: try again in 15 minutes"
    assert (refused.value.smtp_code, refused.value.smtp_error) == (454, b"4.7.0 " + text)
    assert imap(server, ATTACKER, "secret") == b"a NO [UNAVAILABLE] " + text + b"\r\n"
    # Not from elsewhere, where there is nothing to wait for either.
    assert submit(server, ELSEWHERE, "secret")[0] == 235
    client = poplib.POP3("127.0.0.1", server.ports["pop3"])
    client.user(ALICE)
    assert client.pass_("secret").startswith(b"+OK")
    client.quit()

    listed = json.loads(server.cli("guard", "list", "--json").stdout)
    assert [(one["what"], one["name"]) for one in listed if one["blocked_until"]] == [("address", ATTACKER)]
    assert ATTACKER in server.cli("guard", "list").stdout
    assert f"address {ATTACKER}: 3 failures forgotten" in server.cli("guard", "clear", ATTACKER).stdout
    assert submit(server, ATTACKER, "secret")[0] == 235
    assert len([line for line in server.log if line["event"] == "guard-blocked"]) == 1
    assert {line["level"] for line in server.log if "shut out" in line.get("reason", "")} == {"info"}
    assert "guess1" not in server.log_file.read_text()
