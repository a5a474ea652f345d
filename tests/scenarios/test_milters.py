"""Milters, as SMTP sessions meet them: a scripted one that uses all of the protocol."""

import smtplib
import struct

import pytest
from tests.milter import ScriptedMilter, change, insert
from tests.running import RunningServer

from posthouse.protocols.milter.codes import Steps

MESSAGE = b"From: a@far.example\r\nTo: alice@example.test\r\nSubject: hello\r\n there\r\n\r\nbody\r\n.dot\r\n"


@pytest.fixture(scope="module")
def milters(tmp_path_factory):
    """Two of them, by name, before one server."""
    directory = tmp_path_factory.mktemp("milters")
    made = {name: ScriptedMilter(directory / f"{name}.sock") for name in ("first", "second")}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def running(milters, tmp_path_factory):
    tables = "".join(
        f'[milters.{name}]\naddress = "unix:{one.path}"\ntimeout_seconds = 2\nmessage_seconds = 2\n'
        f'on_failure = "{failure}"\nlisteners = ["smtp"]\n'
        for (name, one), failure in zip(milters.items(), ("tempfail", "quarantine"), strict=True)
    )
    server = RunningServer(tmp_path_factory.mktemp("house"), tables, workers=1)
    server.cli("domain", "add", "example.test")
    for name in ("alice", "bob"):
        server.add_account(f"{name}@example.test")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def first(milters, running):
    for one in milters.values():
        one.reset()
    return milters["first"]


@pytest.fixture
def second(milters, first):
    return milters["second"]


@pytest.fixture
def client(running, first):
    with smtplib.SMTP("127.0.0.1", running.ports["smtp"], timeout=30) as smtp:
        yield smtp


def send(client: smtplib.SMTP, *recipients: str, sender: str = "a@far.example") -> tuple[int, bytes]:
    """The last answer of a transaction."""
    client.ehlo_or_helo_if_needed()
    answer = client.mail(sender, ["SIZE=100"])
    for recipient in recipients or ("alice@example.test",):
        if answer[0] == 250:
            answer = client.rcpt(recipient)
    if answer[0] != 250:
        client.rset()
        return answer
    try:
        return client.data(MESSAGE)
    except smtplib.SMTPDataError as error:
        return error.smtp_code, error.smtp_error


def trace(answer: tuple[int, bytes]) -> str:
    assert answer[0] == 250, answer
    return answer[1].decode().rpartition(" ")[2]


def received(running: RunningServer, account: str, answer: tuple[int, bytes]) -> bytes:
    """What has come into that account's mailbox by this transaction."""
    folder = running.data / "mail" / "example.test" / account / "new"
    for path in folder.iterdir() if folder.exists() else ():
        if trace(answer).encode() in path.read_bytes():
            return path.read_bytes()
    return b""


def test_two_messages_of_a_session_are_told_over_one_connection(client, first, second):
    for _ in range(2):
        assert send(client)[0] == 250
    client.quit()
    for one in (first, second):
        assert one.letters.removesuffix("Q") == "CH" + 2 * "MRTLLLNBE"
        assert len(one.of(b"O")) == 1
        assert one.of(b"M")[0] == b"<a@far.example>\0SIZE=100\0"
        assert one.of(b"R")[0] == b"<alice@example.test>\0"
        assert [each.partition(b"\0")[0] for each in one.of(b"L")[:3]] == [b"From", b"To", b"Subject"]
        assert b"Subject\0hello\n there\0" in one.of(b"L")
        assert one.of(b"B")[0] == b"body\r\n.dot\r\n"


def test_macros_say_what_postfix_says(client, first, running):
    answer = send(client)
    macros = {each[:1]: each[1:].split(b"\0") for each in first.of(b"D")}
    assert macros[b"C"][:2] == [b"j", b"mail.example.test"]
    assert b"smtp" in macros[b"C"]
    assert macros[b"M"][:2] == [b"i", trace(answer).encode()]
    assert macros[b"R"][2:4] == [b"{rcpt_addr}", b"alice@example.test"]
    assert macros[b"E"][:2] == [b"i", trace(answer).encode()]


def test_a_milter_asks_for_other_macros(running, first):
    first.macros = struct.pack("!I", 0) + b"{client_addr} {client_name}\0"
    with smtplib.SMTP("127.0.0.1", running.ports["smtp"], timeout=30) as smtp:
        smtp.noop()
    assert first.of(b"D")[0] == b"C{client_addr}\x00127.0.0.1\0{client_name}\0localhost\0"


@pytest.mark.parametrize(
    ("letter", "answer", "code", "text"),
    [
        (b"H", b"r", 550, b"5.7.1 Command rejected"),
        (b"M", b"t", 451, b"4.7.1 Service unavailable"),
        (b"R", b"y550 5.1.1 nobody\0", 550, b"5.1.1 nobody"),
        (b"T", b"y450 4.7.1 not now\0", 450, b"4.7.1 not now"),
        (b"L", b"r", 550, b"5.7.1"),
        (b"N", b"t", 451, b"4.7.1"),
        (b"B", b"y554 5.6.0 a bad body\0", 554, b"5.6.0 a bad body"),
        (b"E", b"y550-5.7.1 one\r\n550 5.7.1 two\0", 550, b"5.7.1 one\n5.7.1 two"),
    ],
)
def test_a_milter_refuses_at_each_stage_and_the_session_goes_on(client, first, second, letter, answer, code, text):
    first.answers = {letter: [answer]}
    if letter == b"H":
        assert client.ehlo("x")[0] == code
        return
    said = send(client)
    assert said[0] == code
    assert said[1].startswith(text)
    assert letter.decode() not in second.letters
    first.answers = {}
    assert send(client)[0] == 250


def test_a_milter_turns_a_client_away_as_it_connects(running, first):
    first.answers = {b"C": [b"r"]}
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        smtplib.SMTP("127.0.0.1", running.ports["smtp"], timeout=30)
    assert refused.value.smtp_code == 554


def test_what_a_milter_accepts_it_hears_no_more_of(client, first, second):
    first.answers = {b"R": [b"a"]}
    assert send(client)[0] == 250
    first.answers = {}
    assert send(client)[0] == 250
    assert first.letters == "CHMRMRTLLLNBE"
    assert second.letters.count("E") == 2


def test_who_accepts_the_session_hears_of_no_message(client, first):
    first.answers = {b"H": [b"a"]}
    assert send(client)[0] == 250
    assert first.letters == "CH"


def test_a_message_is_discarded(client, first, second, running):
    for letter in (b"M", b"R", b"B", b"E"):
        first.answers = {letter: [b"d"]}
        answer = send(client)
        assert received(running, "alice", answer) == b""
        running.wait_for("discarded", trace=trace(answer), reason="milter first")


def test_the_rest_of_a_body_is_skipped(client, first):
    first.steps = int(Steps.SKIP)
    first.hang_up()
    first.answers = {b"B": [b"s"]}
    assert send(client)[0] == 250
    assert first.letters.endswith("BE")


def test_every_change_reaches_the_mailbox_and_the_next_milter(client, first, second, running):
    first.answers = {
        b"E": [
            b"p",
            b"hX-Added\0a\n b\0",
            insert(0, b"X-Top", b"t"),
            insert(1, b"X-Below", b"b"),
            change(1, b"Subject", b"changed"),
            change(1, b"To", b""),
            b"bnew ",
            b"bbody\n",
            b"c",
        ]
    }
    second.answers = {b"E": [b"hX-Second\0s\0", b"a"]}
    message = received(running, "alice", send(client))
    head, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = head.split(b"\n")
    assert lines[0] == b"Return-Path: <a@far.example>"
    assert lines.index(b"X-Top: t") < lines.index(b"X-Below: b")
    assert lines[lines.index(b"X-Top: t") + 1].startswith(b"Received: from")
    assert lines[-4:] == [b"Subject: changed", b"X-Added: a", b" b", b"X-Second: s"]
    assert not any(line.startswith(b"To:") for line in lines)
    assert body == b"new body\n"
    assert b"X-Added\0a\n b\0" in second.of(b"L")
    assert b"Subject\0changed\0" in second.of(b"L")
    assert second.of(b"B") == [b"new body\r\n"]


def test_the_envelope_is_changed(client, first, running):
    first.answers = {
        b"E": [
            b"e<other@far.example>\0RET=HDRS\0",
            b"+<bob@example.test>\0",
            b"2<carol@elsewhere.example>\0NOTIFY=NEVER\0",
            b"+not an address\0",
            b"-<alice@example.test>\0",
            b"c",
        ]
    }
    answer = send(client)
    assert received(running, "alice", answer) == b""
    assert received(running, "bob", answer).startswith(b"Return-Path: <other@far.example>")
    line = running.wait_for("accepted", trace=trace(answer))
    assert line["queued"] == ["carol@elsewhere.example"]
    assert running.wait_for("milter-change-ignored", trace=trace(answer))["change"]


def test_a_message_is_held_for_the_operator(client, first, running):
    first.answers = {b"E": [b"qlooks odd\0", b"c"]}
    answer = send(client)
    assert running.wait_for("held", trace=trace(answer))
    assert "looks odd" in running.cli("queue", "list", "--json").stdout


def test_a_milter_that_fails_does_what_is_configured(client, first, second, running):
    first.dies = b"B"
    assert send(client)[0] == 451
    first.dies = b""
    second.dies = b"E"
    answer = send(client)
    running.wait_for("held", trace=trace(answer))
    second.dies = b""
    assert received(running, "alice", send(client))


def test_a_milter_that_hangs_or_lies_costs_one_message_a_delay(client, first):
    first.hangs = b"E"
    assert send(client)[0] == 451
    first.hangs = b""
    for lie in (b"hX-A", b"\xff", b"y999 x\0", b"p" * 2):
        first.answers = {b"E": [lie, b"c"]}
        assert send(client)[0] == (250 if lie == b"pp" else 451)
    first.answers = {b"R": [b"hX-A\0b\0"]}
    assert send(client)[0] == 451
    first.answers = {}
    assert send(client)[0] == 250


def test_a_milter_that_is_started_anew_is_told_the_session_again(client, first):
    assert send(client)[0] == 250
    first.hang_up()
    first.told.clear()
    assert send(client)[0] == 250
    assert first.letters.startswith("CHMRT")


def test_a_message_that_is_given_up_is_aborted(client, first):
    client.ehlo("x")
    client.mail("a@far.example")
    client.rset()
    assert send(client)[0] == 250
    assert first.letters.startswith("CHMAMRT")


def test_who_wants_to_know_hears_of_recipients_that_are_none(client, first):
    first.steps = int(Steps.REFUSED_RECIPIENTS)
    first.hang_up()
    client.ehlo("x")
    client.mail("a@far.example")
    assert client.rcpt("nobody@example.test")[0] == 550
    assert first.of(b"R") == [b"<nobody@example.test>\0"]
    assert b"error" in first.of(b"D")[-1]


def test_users_mail_is_not_told_to_milters_of_the_other_listener(running, first):
    with smtplib.SMTP_SSL("127.0.0.1", running.ports["submissions"], timeout=30) as smtp:
        smtp.login("alice@example.test", "secret")
        smtp.sendmail("alice@example.test", ["bob@example.test"], MESSAGE)
    assert first.told == []
