"""What leaves: through submission and the queue to another server, and what comes back when that refuses it."""

import email
import email.policy
import os
import re
import smtplib
import socket
import subprocess

import pytest
from tests.interop.house import House, mail, run, until, without_trace


def subject_of(data: bytes) -> bytes:
    return re.search(rb"\r\nSubject: ([^\r\n]*)", data)[1]


@pytest.fixture
def send(house, alice):
    """Hand a message in as alice; the addresses may have parameters."""

    def send(message: bytes, *recipients: str, options: tuple[str, ...] = (), ask: tuple[str, ...] = ()) -> None:
        with house.submission(alice) as session:
            session.sendmail(alice, recipients, message, options, ask)

    return send


def report_of(message: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(message, policy=email.policy.default)


def fields_of(report) -> list:
    """The blocks of the delivery status: the message's, then one for each recipient."""
    return report.get_payload()[1].get_payload()


def test_a_mail_reaches_a_mailbox_here_and_a_server_elsewhere(need, house, sink, alice, bob, tmp_path):
    message = mail("to both", "here\r\n.and there\r\n", sender=alice)
    (tmp_path / "data").write_bytes(message.removesuffix(b"\r\n"))
    line = ["-tlsc", "--auth", "PLAIN", "-au", alice, "-ap", "secret", "--data", f"@{tmp_path}/data"]
    server = f"127.0.0.1:{house.ports['submissions']}"
    run(need("swaks"), "--server", server, "--from", alice, "--to", f"{bob},them@elsewhere.example", *line)
    assert without_trace(house.only(bob)) == message
    (taken,) = until(lambda: sink.taken_for("them@elsewhere.example"))
    assert taken.sender.startswith(f"<{alice}>")
    assert taken.recipients == ("<them@elsewhere.example>",)
    assert taken.data.startswith(b"Received: from ")
    assert taken.data.endswith(message)
    assert taken.data.count(b"\r\nReceived:") == 0
    assert b"Return-Path" not in taken.data


def test_submission_completes_the_header(house, sink, send):
    """RFC 6409 §8.2, §8.3: Date and Message-ID."""
    send(b"Subject: bare\r\n\r\nhi\r\n", "bare@elsewhere.example")
    (taken,) = until(lambda: sink.taken_for("bare@elsewhere.example"))
    assert re.search(rb"^Date: \w{3}, \d", taken.data, re.MULTILINE)
    assert re.search(rb"^Message-ID: <\w+@mail\.example\.test>\r$", taken.data, re.MULTILINE)
    assert taken.data.endswith(b"\r\nSubject: bare\r\n\r\nhi\r\n")


def test_two_recipients_at_one_place_travel_in_one_transaction(sink, send):
    send(mail("for two"), "one@elsewhere.example", "two@elsewhere.example")
    (taken,) = until(lambda: sink.taken_for("one@elsewhere.example"))
    assert taken.recipients == ("<one@elsewhere.example>", "<two@elsewhere.example>")


def test_ascii_mail_that_came_with_smtputf8_goes_to_a_server_without_it(sink, send):
    """RFC 6531 §3.2"""
    send(mail("plain"), "plain@elsewhere.example", options=("SMTPUTF8", "BODY=8BITMIME"))
    (taken,) = until(lambda: sink.taken_for("plain@elsewhere.example"))
    assert "SMTPUTF8" not in taken.sender
    assert b" with UTF8SMTP" in taken.data


def test_a_refusal_makes_a_report_that_programs_understand(house, sink, alice, send):
    """RFC 3464, RFC 6522."""
    message = mail("refused", sender=alice)
    send(message, "refuse.me@elsewhere.example", "fine@elsewhere.example", options=("ENVID=QQ314159",))
    stored = until(lambda: house.messages(alice))[0]
    assert stored.startswith(b"Return-Path: <>\r\n")
    report = report_of(stored)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report["To"] == alice
    assert report["Auto-Submitted"] == "auto-replied"
    assert report["From"].addresses[0].addr_spec == "MAILER-DAEMON@mail.example.test"
    assert [part.get_content_type() for part in report.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    about, recipient = fields_of(report)
    assert about["Reporting-MTA"] == "dns; mail.example.test"
    assert about["Original-Envelope-Id"] == "QQ314159"
    assert about["Arrival-Date"]
    assert recipient["Final-Recipient"] == "rfc822; refuse.me@elsewhere.example"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert recipient["Remote-MTA"].startswith("dns; ")
    said = " ".join(recipient["Diagnostic-Code"].split())
    assert said == "smtp; 550 5.1.1 We have looked everywhere. Nobody by that name (really)"
    words = next(report.iter_parts()).get_content()
    assert "refuse.me@elsewhere.example" in words
    assert "Nobody by that name" in words
    assert "fine@elsewhere.example" not in words
    assert stored.count(message) == 1
    assert len(until(lambda: sink.taken_for("fine@elsewhere.example"))) == 1
    assert house.messages(alice) == [stored]


def test_a_report_returns_the_headers_alone_if_asked_to(house, alice, send):
    """RFC 3461 §4.3: RET=HDRS."""
    send(mail("headers", "the body\r\n", sender=alice), "refuse.h@elsewhere.example", options=("RET=HDRS",))
    stored = until(lambda: house.messages(alice))[0]
    assert report_of(stored).get_payload()[2].get_content_type() == "text/rfc822-headers"
    assert b"\r\nSubject: headers\r\n" in stored
    assert b"the body" not in stored


def test_who_never_wants_to_hear_hears_nothing(house, sink, alice, send):
    """RFC 3461 §4.1: NOTIFY=NEVER. The second message's report shows that the first's had its time."""
    send(mail("never", sender=alice), "refuse.never@elsewhere.example", ask=("NOTIFY=NEVER",))
    until(lambda: not any("never@" in entry["recipients"][0]["address"] for entry in house.queue()))
    send(mail("loud", sender=alice), "refuse.loud@elsewhere.example")
    stored = until(lambda: house.messages(alice))
    assert len(stored) == 1
    assert b"refuse.loud@" in stored[0]


def test_success_is_reported_for_a_mailbox_here(house, alice, bob, send):
    send(mail("success", sender=alice), bob, ask=("NOTIFY=SUCCESS", "ORCPT=rfc822;Bobby@example.test"))
    report = report_of(until(lambda: house.messages(alice))[0])
    recipient = fields_of(report)[1]
    assert recipient["Action"] == "delivered"
    assert recipient["Status"].startswith("2.")
    assert recipient["Final-Recipient"] == f"rfc822; {bob}"
    assert recipient["Original-Recipient"] == "rfc822; Bobby@example.test"
    assert without_trace(house.only(bob)) == mail("success", sender=alice)


def test_success_is_the_next_servers_to_report_where_that_speaks_dsn(sink, send):
    """RFC 3461 §5.2.2: its parameters go along."""
    send(mail("along"), "along@elsewhere.example", options=("RET=HDRS", "ENVID=abc"), ask=("NOTIFY=SUCCESS,DELAY",))
    (taken,) = until(lambda: sink.taken_for("along@elsewhere.example"))
    assert "RET=HDRS" in taken.sender
    assert "ENVID=abc" in taken.sender
    assert re.search(r"NOTIFY=(SUCCESS,DELAY|DELAY,SUCCESS)", taken.recipients[0])


def test_a_report_that_cannot_be_delivered_is_told_the_postmaster_and_nobody_else(house, sink, account):
    """RFC 5321 §6.1: nothing is ever sent back to the null sender."""
    outsider = "refuse.null@elsewhere.example"
    list_address = account("list")
    house.cli("alias", "add", f"forward-{list_address}", "refuse.away@elsewhere.example")
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        session.sendmail(outsider, [f"forward-{list_address}"], mail("circle"))
    bounced = house.wait_for("bounced", sender=outsider)
    house.wait_for("failed", trace=bounced["report"])
    until(lambda: not any(entry["id"] == bounced["report"] for entry in house.queue()))
    told = house.wait_for("report-submitted", about=bounced["report"])
    assert told["recipient"].startswith("postmaster@")
    until(lambda: not any(entry["id"] == told["trace"] for entry in house.queue()))
    assert not [line for line in house.log if line["event"] == "bounced" and line["trace"] == told["trace"]]


@pytest.fixture
def own_house(tmp_path, sink):
    """A server with a queue of its own."""
    running = House(tmp_path, f'[smtp]\nrelayhost = "[127.0.0.1]:{sink.port}"\n', workers=1)
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    running.start()
    yield running
    sink.is_open = False
    running.stop()


def test_a_temporary_refusal_stays_in_the_queue_in_the_operators_hands(own_house, sink):
    house = own_house
    with house.submission("alice@example.test") as session:
        session.sendmail("alice@example.test", ["later.one@elsewhere.example"], mail("one"))
        session.sendmail("alice@example.test", ["later.two@elsewhere.example"], mail("two"))
    one = house.wait_for("deferred", recipient="later.one@elsewhere.example")["trace"]
    two = house.wait_for("deferred", recipient="later.two@elsewhere.example")["trace"]
    first, second = until(lambda: [e for e in house.queue() if e["recipients"][0]["state"] == "deferred"])
    assert [first["id"], second["id"]] == [one, two]
    assert first["recipients"][0]["reply"] == "451 4.7.1 Greylisted, come back"
    listed = house.cli("queue", "list").stdout
    assert all(word in listed for word in (one, two, "later.one@elsewhere.example", "451 4.7.1"))
    assert "Greylisted" in house.cli("queue", "show", one).stdout
    assert house.cli("queue", "delete", two).stdout == f"{two}: deleted\n"
    house.cli("queue", "hold", one)
    sink.is_open = True
    assert "still on hold" in house.cli("queue", "retry", one).stdout
    assert sink.taken_for("later.one@elsewhere.example") == []
    house.cli("queue", "release", one)
    assert len(until(lambda: sink.taken_for("later.one@elsewhere.example"))) == 1
    until(lambda: house.queue() == [])
    assert sink.taken_for("later.two@elsewhere.example") == []


def test_postfix_smtp_sink_takes_what_we_send(need, tmp_path):
    """Postfix's own test server, which speaks what a Postfix speaks."""
    program = need("smtp-sink")
    taken = tmp_path / "taken"
    taken.mkdir(mode=0o777)
    taken.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    house = House(tmp_path, f'[smtp]\nrelayhost = "[127.0.0.1]:{port}"\n', workers=1)
    house.cli("domain", "add", "example.test")
    house.add_account("alice@example.test")
    as_root = ["-u", "nobody", "-R", str(taken)] if os.geteuid() == 0 else []
    line = [program, *as_root, "-d", "mail." if as_root else f"{taken}/mail.", f"127.0.0.1:{port}", "100"]
    taking = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        house.start()
        message = mail("for postfix", ".\r\n..\r\n", sender="alice@example.test")
        with house.submission("alice@example.test") as session:
            session.sendmail("alice@example.test", ["them@elsewhere.example"], message)
        house.wait_for("delivered", recipient="them@elsewhere.example", remote="127.0.0.1")
        (dumped,) = [entry.read_bytes() for entry in taken.iterdir()]
        assert dumped.replace(b"\r\n", b"\n").rstrip().endswith(message.replace(b"\r\n", b"\n").rstrip())
    finally:
        house.stop()
        taking.terminate()
        taking.wait()


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port):
            return True
    except OSError:
        return False
