"""swaks hears every refusal that needs no restriction: the reply, what the log says of it, what explain foretells.

The table has every reply that a client can be told, or says where those are shown that swaks can't hear.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest
from tests.interop.house import PASSWORD, House, run

from posthouse.base import errors
from posthouse.base.errors import Reply
from posthouse.directory import expansion
from posthouse.protocols.smtp import replies, xclient
from posthouse.servers import door, smtp, smtplogin
from posthouse.services import placement, reception, textfiles
from posthouse.services.rewriting import checks

ALICE = "alice@example.test"
PROXY = "127.0.0.99"
MODULES = (replies, xclient, smtp, smtplogin, door, reception, placement, expansion, checks, textfiles, errors)
SETTINGS = f"""
[smtp]
max_size_bytes = 100000
max_recipients = 3
max_errors = 5
soft_error_limit = 5
xclient_networks = ["{PROXY}/32"]
[rewrite]
header_checks = "checks"
[guard]
block_after = 2
exempt_networks = ["127.0.0.1/32"]
"""
TABLES = """
INSERT INTO relocated (email, destination) VALUES ('moved@example.test', 'new@far.example');
INSERT INTO transport (domain, destination) VALUES ('closed.test', 'error:5.1.1 closed for good');
INSERT INTO transport (domain, destination) VALUES ('later.test', 'retry:4.4.1 closed today');
INSERT INTO transport (domain, destination) VALUES ('undefined.test', 'procmail:');
INSERT INTO users (email, clear, maildir, quota) VALUES ('full@example.test', 'secret', 'example.test/full/', '10');
"""

ELSEWHERE = {
    "SHUTTING_DOWN": "swaks goes at once: below",
    "TIMED_OUT": "swaks is never silent: below",
    "NO_TLS": "a running server has a certificate",
    "AUTH_UNAVAILABLE": "tests/unit/servers/test_smtp_login.py, where no source of logins answers",
    "TOO_EARLY": "swaks waits for its greeting: tests/interop/test_restrictions.py",
    "NO_SPACE": "a full disk: tests/scenarios/test_durability_trouble.py",
    "BAD_ADDRESS": "what is no address is refused before it is looked up",
    "BROKEN": "a table that breaks while the server runs: tests/unit/services",
}


@dataclass(frozen=True)
class Case:
    """What swaks is told, and how it exits (None: it may not see the end coming); ``service``: the listener."""

    reply: Reply | str
    options: tuple[str, ...]
    code: int | None
    service: str = "smtp"


def said(reply: Reply | str, *lines: str, code: int | None = 23, source: str = "127.0.0.1") -> Case:
    """What swaks has no option for goes out behind its EHLO; the reply comes in the place of MAIL's."""
    options = ("--local-interface", source, "--helo", "\r\n".join(("client.example", *lines)))
    return Case(reply, options, code)


def mail(reply: Reply | str, *options: str, code: int | None = 23, service: str = "smtp") -> Case:
    return Case(reply, options, code, service)


def login(password: str) -> tuple[str, ...]:
    return ("-tls", "--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", password)


NO_RECIPIENT = "a@x.example>\r\nDATA\r\nNOOP <"


def headers(count: int, field: str) -> tuple[str, ...]:
    return ("--data", f"{field}\\n" * count + "\\nhello\\n")


CASES = {
    "too many recipients": mail(replies.TOO_MANY_RECIPIENTS, "--to", ",".join([ALICE] * 4), code=0),
    "too many errors": mail(
        replies.TOO_MANY_ERRORS, "--to", ",".join(f"no{n}@example.test" for n in range(5)), code=24
    ),
    "not smtp": said(replies.NOT_SMTP, "GET / HTTP/1.1", code=None),
    "unknown command": said(replies.UNKNOWN_COMMAND, "HELLO client.example"),
    "line too long": said(replies.LINE_TOO_LONG, "NOOP " + "x" * 5000),
    "no argument": said(replies.NO_ARGUMENT, "RSET now"),
    "need argument": said(replies.NEED_ARGUMENT, "VRFY"),
    "bad hello": said(replies.BAD_HELLO, "EHLO two words"),
    "bad base64": said(replies.BAD_BASE64, "AUTH PLAIN !"),
    "bad auth": said(replies.BAD_AUTH, "AUTH"),
    "auth cancelled": said(replies.AUTH_CANCELLED, "AUTH PLAIN", "*"),
    "already authenticated": mail(
        replies.ALREADY_AUTHENTICATED, *login(PASSWORD), "--from", f"{ALICE}>\r\nRSET\r\nAUTH PLAIN <", code=25
    ),
    "unknown mechanism": said(replies.UNKNOWN_MECHANISM, "AUTH NTLM"),
    "auth failed": mail(smtplogin.AUTH_FAILED, *login("wrong"), code=28),
    "auth required": mail(replies.AUTH_REQUIRED, service="submission"),
    "not implemented": said(replies.NOT_IMPLEMENTED, "ETRN example.test"),
    "bad sequence": said(replies.BAD_SEQUENCE, f"RCPT TO:<{ALICE}>"),
    "need hello": said(replies.NEED_HELLO, "XCLIENT ADDR=192.0.2.1", "MAIL FROM:<>", source=PROXY),
    "need recipient": mail(
        replies.NEED_RECIPIENT, "--protocol", "LMTP", "--from", NO_RECIPIENT, code=24, service="lmtp"
    ),
    "no valid recipients": mail(replies.NO_VALID_RECIPIENTS, "--from", NO_RECIPIENT, code=24),
    "bad bdat": said(replies.BAD_BDAT, "BDAT -1", code=None),
    "a chunk without a recipient": said(replies.BAD_SEQUENCE, "BDAT 4", "ab"),
    "need tls": said(replies.NEED_TLS, "MAIL FROM:<a@x.example> REQUIRETLS"),
    "need smtputf8": mail(replies.NEED_SMTPUTF8, "--from", "jürgen@x.example"),
    "a recipient that needs SMTPUTF8": mail(replies.NEED_SMTPUTF8, "--to", "jürgen@example.test", code=24),
    "bare newline": mail(
        replies.BARE_NEWLINE, "--no-data-fixup", "--data", "Subject: x\r\n\r\none\n.\ntwo\r\n.\r\n", code=26
    ),
    "too large": mail(replies.TOO_LARGE, "--body", "x" * 101_000, code=26),
    "a size that is announced": said(replies.TOO_LARGE, "MAIL FROM:<a@x.example> SIZE=100001"),
    "a header of thousands of fields": mail(checks.TOO_LARGE, *headers(2001, "X-Y: z"), code=26),
    "bad": said(xclient.BAD, "XCLIENT COLOUR=red", source=PROXY),
    "XCLIENT from anybody": said(replies.UNKNOWN_COMMAND, "XCLIENT ADDR=192.0.2.1"),
    "a parameter nobody knows": said("555 5.5.4 Unsupported parameter X", "MAIL FROM:<a@x.example> X=1"),
    "a parameter with a bad value": said("501 5.5.4 Bad value of parameter BODY", "MAIL FROM:<a@x.example> BODY=9"),
    "a parameter given twice": said("501 5.5.4 Parameter SIZE given twice", "MAIL FROM:<a@x.example> SIZE=1 SIZE=1"),
    "no path": said("501 5.5.4 Syntax: FROM:<address>", "MAIL FROM"),
    "a sender that is no address": mail("501 5.1.7 Bad address syntax", "--from", "a@b@c"),
    "a recipient that is no address": mail("501 5.1.3 Bad address syntax", "--to", "a b@example.test", code=24),
    "relay denied": mail(reception.RELAY_DENIED, "--to", "a@elsewhere.example", code=24),
    "not for us": mail(
        reception.NOT_FOR_US, "--protocol", "LMTP", "--to", "a@elsewhere.example", code=24, service="lmtp"
    ),
    "not your address": mail(
        reception.NOT_YOUR_ADDRESS, *login(PASSWORD), "--from", "boss@example.test", service="submission"
    ),
    "mailbox full": said(reception.MAILBOX_FULL, "MAIL FROM:<> SIZE=100", "RCPT TO:<full@example.test>", code=24),
    "too many hops": mail(reception.TOO_MANY_HOPS, *headers(101, "Received: by a"), code=26),
    "thousands of hops": mail(reception.TOO_MANY_HOPS, *headers(1999, "Received: by a"), code=26),
    "hops that are far apart": mail(
        reception.TOO_MANY_HOPS, *headers(101, "Received: by a\\nX-Seal: " + "x" * 750), code=26
    ),
    "unknown": mail(expansion.UNKNOWN, "--to", "nobody@example.test", code=24),
    "disabled": mail(expansion.DISABLED, "--to", "a@disabled.test", code=24),
    "temporary failure": mail(errors.TEMPORARY_FAILURE, "--to", "a@undefined.test", code=24),
    "who is shut out": mail(
        "454 4.7.0 Too many failed logins from your address: try again in", *login(PASSWORD),
        "--local-interface", "127.0.0.66", code=28,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    running = House(tmp_path_factory.mktemp("table"), SETTINGS, workers=1)
    running.data.mkdir()
    (running.data / "checks").write_text("/^X-Never: again/ REJECT\n")
    running.cli("domain", "add", "example.test")
    running.cli("domain", "add", "disabled.test")
    running.cli("domain", "set", "disabled.test", "--disable")
    running.add_account(ALICE)
    with closing(sqlite3.connect(running.data / "posthouse.db")) as database:
        database.executescript(TABLES)
    running.start()
    yield running
    code = running.stop()
    assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


RECIPIENTS = {
    "nobody@example.test": ("550 5.1.1 No such mailbox here", "refused"),
    "moved@example.test": ("550 5.1.6 User has moved to new@far.example", "refused"),
    "a@closed.test": ("550 5.1.1 closed for good", "refused"),
    "a@later.test": ("450 4.4.1 closed today", "deferred-at-door"),
    "a@elsewhere.example": ("554 5.7.1 Relay access denied", "refused"),
}


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_recipient_is_refused_as_explained_and_logged(need, house, recipient):
    reply, event = RECIPIENTS[recipient]
    server = f"127.0.0.1:{house.ports['smtp']}"
    assert f"<** {reply}" in run(
        need("swaks"), "--server", server, "--from", "a@x.example", "--to", recipient, code=24
    )
    line = house.wait_for(event, recipient=recipient, sender="a@x.example", peer="127.0.0.1")
    assert line["reply"].startswith(reply)
    assert line["reason"]
    asked = ("--client=127.0.0.1", "--helo=x.example", "--from=a@x.example", f"--to={recipient}")
    said = house.cli("smtp", "explain", *asked, check=False)
    assert said.returncode == 1
    assert reply in said.stdout


@pytest.mark.parametrize("name", CASES)
def test_swaks_hears_the_refusal(need, house, name):
    case = CASES[name]
    given = ["--server", f"127.0.0.1:{house.ports[case.service]}", "--from", "a@x.example", "--to", ALICE]
    if name == "who is shut out":
        for guess in ("one", "two"):
            run(need("swaks"), *given, *case.options, "--auth-password", guess, code=28)
    inbox = house.data / "mail/example.test/alice/new"
    before = len(list(inbox.glob("*")))
    heard = run(need("swaks"), *given, *case.options, code=case.code)
    assert f"<** {case.reply}" in heard or f"<~* {case.reply}" in heard, heard
    assert len(list(inbox.glob("*"))) - before == (case.code == 0)


def test_every_refusal_is_in_the_table_or_shown_elsewhere():
    told = {case.reply for case in CASES.values()}
    constants = [
        (name, value) for module in MODULES for name, value in vars(module).items() if isinstance(value, Reply)
    ]
    missing = {name for name, value in constants if value.code >= 400 and value not in told}
    assert missing == ELSEWHERE.keys()


def test_a_mailbox_that_is_full_is_tried_again(need, house):
    server = f"127.0.0.1:{house.ports['smtp']}"
    line = [need("swaks"), "--server", server, "--from", "a@x.example", "--to", "full@example.test"]
    run(*line, code=0)  # what makes it full
    assert "<** 452 4.2.2 " in run(*line, code=24)
    assert "quota" in house.wait_for("deferred-at-door", recipient="full@example.test")["reason"]


def test_who_is_silent_or_still_there_at_the_end_is_told_so(tmp_path):
    running = House(tmp_path, "[smtp]\ntimeout_seconds = 2\n", workers=1).start()
    with running.connect("smtp") as silent, silent.makefile("rb") as answers:
        assert answers.readline().startswith(b"220 ")
        assert answers.read() == f"{smtp.TIMED_OUT}\r\n".encode()
    with running.connect("smtp") as there, there.makefile("rb") as answers:
        assert answers.readline().startswith(b"220 ")
        assert running.stop() == 0
        assert answers.read() == f"{smtp.SHUTTING_DOWN}\r\n".encode()
