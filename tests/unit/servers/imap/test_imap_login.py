"""Greeting, capabilities, logging in and out, TLS."""

import hmac
from base64 import b64decode, b64encode

from posthouse.base.errors import Reply, TryLater
from posthouse.config.settings import Auth, Imap
from posthouse.protocols.imap import commands
from posthouse.protocols.imap.render import no
from posthouse.servers.imap import failures, handlers


def test_the_greeting_says_what_can_be_done(live, connect):
    """RFC 3501 §7.1, CAPABILITY as a response code."""
    client = connect(live, login=False)
    assert client.greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=")
    assert b"STARTTLS" in client.greeting
    assert b"LOGINDISABLED" not in client.greeting
    assert client.ok("CAPABILITY") == [b"* " + client.greeting[6:].split(b"]")[0] + b"\r\n"]


def test_capabilities_change_after_login_and_come_with_it(live, connect):
    client = connect(live, login=False)
    _, tagged = client.command("LOGIN alice@example.test secret")
    assert tagged.startswith(b"OK [CAPABILITY IMAP4rev1 ")
    for name in (b"UIDPLUS", b"MOVE", b"SPECIAL-USE", b"NAMESPACE", b"UNSELECT", b"CHILDREN", b"IDLE"):
        assert name in tagged
    assert b"STARTTLS" not in tagged
    assert b"AUTH=" not in tagged


def test_a_wrong_password_and_an_unknown_login_are_refused_alike(live, connect):
    """RFC 5530 §3."""
    client = connect(live, login=False)
    wrong = client.refused("LOGIN alice@example.test wrong")
    assert wrong == client.refused("LOGIN nobody@example.test wrong")
    assert wrong.startswith(b"NO [AUTHENTICATIONFAILED]")


def test_guessing_ends_with_the_connection(live, connect):
    client = connect(live, login=False)
    for _ in range(9):
        client.refused("LOGIN alice@example.test wrong")
    untagged, _ = client.command("LOGIN alice@example.test wrong")
    assert untagged[0].startswith(b"* BYE")
    assert client.response() == b""


def test_no_password_is_taken_in_clear_from_afar(start, connect):
    """RFC 3501 §6.2.3; after STARTTLS (§6.2.1) it is."""
    live = start(auth=Auth(trusted_networks=()))
    client = connect(live, login=False)
    assert b"LOGINDISABLED" in client.greeting
    assert b"AUTH=" not in client.greeting
    assert client.refused("LOGIN alice@example.test secret").startswith(b"NO [PRIVACYREQUIRED]")
    assert client.refused("AUTHENTICATE PLAIN").startswith(b"NO [PRIVACYREQUIRED]")
    client.start_tls(live.authority)
    (capability,) = client.ok("CAPABILITY")
    assert b"AUTH=PLAIN" in capability
    assert b"STARTTLS" not in capability
    assert client.refused("STARTTLS").startswith(b"BAD")
    client.ok("LOGIN alice@example.test secret")


def test_only_the_configured_mechanisms_are_offered(start, connect):
    client = connect(start(auth=Auth(mechanisms=("SCRAM-SHA-256",))), login=False)
    assert b"LOGINDISABLED" in client.greeting
    assert client.refused("LOGIN alice@example.test secret").startswith(b"NO [CANNOT]")
    assert client.refused("AUTHENTICATE PLAIN").startswith(b"NO [CANNOT]")


def test_what_is_sent_in_clear_behind_starttls_is_not_executed(live, connect):
    """The STARTTLS command injections of 2011 and 2021."""
    client = connect(live, login=False)
    client.start_tls(live.authority, behind=b"b NOOP\r\n")
    assert client.ok("NOOP") == []


def test_plain_comes_at_once_or_after_a_challenge(live, connect):
    """RFC 4616, RFC 4959."""
    secret = b64encode(b"\0alice@example.test\0secret")
    client = connect(live, login=False)
    client.ok(b"AUTHENTICATE PLAIN " + secret)
    client = connect(live, login=False)
    client.send(b"a AUTHENTICATE PLAIN\r\n")
    assert client.response() == b"+ \r\n"
    client.send(secret + b"\r\n")
    assert client.until(b"a")[1].startswith(b"OK [CAPABILITY")


def test_cram_md5_proves_a_password_without_sending_it(live, connect):
    """RFC 2195."""
    client = connect(live, login=False)
    client.send(b"a AUTHENTICATE CRAM-MD5\r\n")
    challenge = b64decode(client.response()[2:])
    digest = hmac.digest(b"secret", challenge, "md5").hex().encode()
    client.send(b64encode(b"alice@example.test " + digest) + b"\r\n")
    assert client.until(b"a")[1].startswith(b"OK")


def test_apop_is_no_mechanism_of_imap(start, connect):
    client = connect(start(auth=Auth(mechanisms=("APOP", "PLAIN"))), login=False)
    assert b"AUTH=PLAIN" in client.greeting
    assert b"APOP" not in client.greeting
    assert client.refused("AUTHENTICATE APOP").startswith(b"NO [CANNOT]")


def test_a_login_that_has_to_wait_says_how_long():
    """RFC 5530 §3, UNAVAILABLE; other trouble keeps its reasons to itself."""
    command = commands.Login(b"a", "alice@example.test", "secret")
    later = TryLater("shut out", Reply(454, "4.7.0", "Too many failed logins, try again in 5 minutes"))
    assert failures.completion(later, command) == no("Too many failed logins, try again in 5 minutes", "UNAVAILABLE")
    trouble = failures.completion(TryLater("database away"), command)
    assert trouble == no("Temporary failure, please try again later", "UNAVAILABLE")


def test_a_sasl_exchange_can_be_cancelled(live, connect):
    client = connect(live, login=False)
    client.send(b"a AUTHENTICATE PLAIN\r\n")
    client.response()
    client.send(b"*\r\n")
    assert client.until(b"a")[1].startswith(b"BAD")
    assert client.refused("AUTHENTICATE NONSENSE").startswith(b"NO")
    client.ok("LOGIN alice@example.test secret")


def test_logout_says_bye_first(client):
    """RFC 3501 §6.1.3."""
    untagged, tagged = client.command("LOGOUT")
    assert untagged == [b"* BYE Logging out\r\n"]
    assert tagged == b"OK LOGOUT completed"
    assert client.response() == b""


def test_a_silent_client_is_logged_out(start, connect):
    """RFC 3501 §5.4."""
    client = connect(start(imap=Imap(timeout_seconds=1)))
    assert client.response() == b"* BYE Autologout, silent for too long\r\n"
    assert client.response() == b""


def test_a_stopping_server_says_bye(start, connect):
    live = start()
    client = connect(live)
    client.ok("NOOP")
    live.stop()
    assert client.response() == b"* BYE This server is restarting\r\n"


def test_a_bug_costs_its_command_and_not_the_session(client, monkeypatch):
    """RFC 5530 §3, SERVERBUG."""

    async def broken(session, command):
        raise ZeroDivisionError("a bug")

    kind = next(kind for kind in handlers.HANDLERS if kind.__name__ == "Namespace")
    monkeypatch.setitem(handlers.HANDLERS, kind, broken)
    refusal = client.refused("NAMESPACE")
    assert refusal.startswith(b"NO [SERVERBUG]")
    assert b"a bug" not in refusal
    client.ok("NOOP")


def test_small_commands_have_their_answers(client):
    assert client.ok('ID ("name" "test")') == [b'* ID ("name" "Posthouse")\r\n']
    assert client.ok("NAMESPACE") == [b'* NAMESPACE (("" ".")) (("Shared/" "/")) NIL\r\n']
    assert client.ok("ENABLE CONDSTORE NONSENSE") == [b"* ENABLED CONDSTORE\r\n"]
