"""What is counted while a whole server works, and that it stays when a worker dies."""

import http.client
import imaplib
import json
import os
import signal
import smtplib
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.running import RunningServer

MAIL = b"From: a@b.example\r\nSubject: x\r\n\r\nHello.\r\n"


@pytest.fixture
def server(tmp_path):
    listen = f'metrics = ["unix:{tmp_path}/metrics", "127.0.0.1:0"]\n'
    running = RunningServer(
        tmp_path, '[smtp]\nrelayhost = "[127.0.0.1]:1"\nmynetworks = ["127.0.0.1/32"]\n', listen=listen
    )
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    running.start()
    yield running
    running.stop()


def get(server, path="/metrics", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["metrics"], timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


def scrape(server):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(get(server)[1])
        for sample in family.samples
    }


def total(found, name, **labels):
    """The sum over all series of that name that have these labels."""
    return sum(value for (one, *has), value in found.items() if one == name and labels.items() <= dict(has).items())


def until(server, name, least, **labels):
    deadline = time.monotonic() + 60
    while total(found := scrape(server), name, **labels) < least:
        assert time.monotonic() < deadline, (name, labels, found)
        time.sleep(0.1)
    return found


def use(server):
    """One message taken, one recipient refused, one message that is deferred, logins, a FETCH."""
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=30) as client:
        client.ehlo("client.example")
        client.mail("you@example.org")
        assert client.rcpt("nobody@example.test")[0] == 550
        assert client.rcpt("alice@example.test")[0] == 250
        assert client.data(MAIL)[0] == 250
        assert client.docmd("NONSENSE")[0] == 500
        client.sendmail("alice@example.test", ["far@away.example"], MAIL)
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as client:
        with pytest.raises(client.error):
            client.login("alice@example.test", "wrong")
        client.login("alice@example.test", "secret")
        client.select("INBOX")
        client.fetch("1", "(FLAGS)")


def test_the_numbers_are_what_happened_and_survive_a_worker(server):
    use(server)
    found = until(server, "posthouse_deliveries_total", 1, result="deferred")
    smtp = {"service": "smtp", "name": "posthouse_smtp_replies_total"}
    assert total(found, **smtp, stage="message", result="accepted") == 2
    assert total(found, **smtp, stage="rcpt", result="accepted") == 2
    assert total(found, **smtp, stage="rcpt", result="refused", reason="5.1.1") == 1
    assert total(found, **smtp, stage="command", result="refused", reason="5.5.2") == 1
    assert total(found, "posthouse_smtp_acceptance_seconds_count", service="smtp") == 2
    assert total(found, "posthouse_smtp_message_bytes_total", service="smtp") == 2 * len(MAIL)
    assert total(found, "posthouse_logins_total", protocol="imap", result="failed") == 1
    assert total(found, "posthouse_logins_total", protocol="imap", result="succeeded") == 1
    assert total(found, "posthouse_imap_commands_total", command="fetch", result="ok") == 1
    assert total(found, "posthouse_imap_command_seconds_count", command="fetch") == 1
    assert total(found, "posthouse_journal_group_commits_sum") >= 2
    assert total(found, "posthouse_directory_lookups_total") > 0
    assert total(found, "posthouse_metrics_dropped_total") == 0
    assert total(found, "posthouse_build_info") == 1
    assert abs(total(found, "posthouse_start_time_seconds") - time.time()) < 300
    assert total(found, "posthouse_attempt_seconds_count", courier="smtp", destination="other") == 1

    workers = server.pids()[1:3]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for number in range(2):
        server.wait_for("process-died", role=f"worker-{number}")
    after = until(server, "posthouse_process_deaths_total", 2)
    lower = {
        key: (value, after.get(key))
        for key, value in found.items()
        if key[0].endswith(("_total", "_bucket", "_sum", "_count")) and after.get(key, 0) < value
    }
    assert not lower
    use(server)
    found = scrape(server)
    assert total(found, **smtp, stage="message", result="accepted") == 4
    assert total(found, "posthouse_sessions", listener="imap") == 0
    until(server, "posthouse_queue_messages", 1, state="deferred")


def test_a_reload_loses_nothing_either(server):
    use(server)
    server.process.send_signal(signal.SIGHUP)
    found = until(server, "posthouse_reloads_total", 1, result="done")
    assert total(found, "posthouse_smtp_replies_total", stage="message", result="accepted") == 2


def test_the_command_prints_the_same(server):
    use(server)
    text = server.cli("metrics").stdout
    assert 'posthouse_smtp_replies_total{service="smtp",stage="message",result="accepted",reason=""} 2\n' in text
    families = {family["name"]: family for family in json.loads(server.cli("metrics", "--json").stdout)}
    assert families["posthouse_sessions"]["type"] == "gauge"
    server.stop()
    done = server.cli("metrics", check=False)
    assert (done.returncode, "is the server running" in done.stderr) == (75, True)


def test_only_what_is_there_is_served(server):
    response, text = get(server)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert get(server, "/")[0].status == 404
    assert get(server, method="POST")[0].status == 405
    assert get(server, method="HEAD")[1] == ""
    with socket.create_connection(("127.0.0.1", server.ports["metrics"]), timeout=30) as sock:
        sock.sendall(b"x" * 9000)
        assert sock.recv(100).startswith(b"HTTP/1.1 431 ")
