"""swaks is refused by each restriction of a running server, whose names come from a name server of the test's own."""

import getpass
import grp
import os
import socket
import socketserver
import subprocess
import threading
import time

import dns.rcode
import pytest
from tests.interop.house import House, run
from tests.nameserver import SILENT, NameServer

ALICE = "alice@example.test"
ZONE = {
    "1.0.0.127.in-addr.arpa": ["PTR client.example."],
    "client.example": ["A 127.0.0.1"],
    "known.example": ["MX 10 client.example."],
    "null.example": ["MX 0 ."],
    "broken.example": dns.rcode.SERVFAIL,
    "dead.example": SILENT,
    "helo.known.example": ["A 127.0.0.1"],
    "66.0.0.127.bl.example": ["A 127.0.0.4", 'TXT "we have seen you"'],
    "67.0.0.127.one.example": ["A 127.0.0.2"],
    "67.0.0.127.two.example": ["A 127.0.0.2"],
    "68.0.0.127.bl.example": ["A 127.0.0.4"],
    "68.0.0.127.wl.example": ["A 127.0.5.1"],
    "spam.example": ["A 127.0.0.1"],
    "spam.example.rhs.example": ["A 127.0.1.2"],
}
LISTS = """
[dns]
servers = ["{dns}"]
[dnslists]
sites = ["one.example*2", "two.example*2", "silent.example*2"]
threshold = 4
timeout_seconds = 1
[smtp]
xclient_networks = ["127.0.0.99/32"]
proxy_networks = ["127.0.0.98/32"]
client_restrictions = [
    "permit_dnswl_client wl.example", "check_client_access clients", "reject_rbl_client bl.example=127.0.0.[2..11]",
    "reject_dnslists", "warn_if_reject reject_unknown_client_hostname",
]
helo_restrictions = [
    "reject_invalid_helo_hostname", "reject_non_fqdn_helo_hostname", "check_helo_access helos",
    "reject_unknown_helo_hostname",
]
sender_restrictions = [
    "check_sender_access senders", "reject_non_fqdn_sender", "reject_rhsbl_sender rhs.example",
    "reject_unknown_sender_domain", "reject_sender_login_mismatch",
]
recipient_restrictions = ["check_recipient_access recipients", "permit"]
"""
TABLES = {
    "clients": "127.0.0.70/31 REJECT not from there\n127.0.0.72 PREPEND X-From: seventy-two\n",
    "helos": "liar.example REJECT nobody is called that\n",
    "senders": "bad@known.example 550 5.1.8 go away\n",
    "recipients": "postmaster@ DEFER holidays\n",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with NameServer(dict(ZONE)) as names:
        running = House(tmp_path_factory.mktemp("lists"), LISTS.format(dns=names.address))
        running.data.mkdir()
        for name, text in TABLES.items():
            (running.data / name).write_text(text)
        running.cli("domain", "add", "example.test")
        running.add_account(ALICE)
        running.start()
        yield running
        code = running.stop()
        assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


def swaks(
    need, house, *options, code, source="127.0.0.1", sender="a@known.example", to=ALICE, helo="helo.known.example"
):
    server = f"127.0.0.1:{house.ports['smtp']}"
    given = ["--from", sender, "--to", to, "--helo", helo, "--local-interface", source, *options]
    return run(need("swaks"), "--server", server, *given, code=code)


REFUSED = [
    (
        {"source": "127.0.0.66"},
        "554 5.7.1 Service unavailable; Client host [127.0.0.66] blocked using bl.example; we",
    ),
    (
        {"source": "127.0.0.67"},
        "554 5.7.1 Service unavailable; Client host [127.0.0.67] blocked using one.example, two",
    ),
    ({"source": "127.0.0.71"}, "554 5.7.1 not from there"),
    ({"helo": "a..b"}, "501 5.5.2 <a..b>: Helo command rejected: Invalid name"),
    ({"helo": "host"}, "504 5.5.2 <host>: Helo command rejected: need fully-qualified hostname"),
    ({"helo": "liar.example"}, "554 5.7.1 nobody is called that"),
    ({"helo": "nowhere.example"}, "450 4.7.1 <nowhere.example>: Helo command rejected: Host not found"),
    ({"sender": "bad@known.example"}, "550 5.1.8 go away"),
    ({"sender": "a@host"}, "504 5.5.2 <a@host>: Sender address rejected: need fully-qualified address"),
    ({"sender": "a@spam.example"}, "554 5.7.1 Service unavailable; Sender address [spam.example] blocked using rhs"),
    ({"sender": "a@nowhere.example"}, "450 4.1.8 <a@nowhere.example>: Sender address rejected: Domain not found"),
    ({"sender": "a@null.example"}, "550 5.7.27 <a@null.example>: Sender address rejected"),
    ({"sender": "a@broken.example"}, "450 4.1.8 <a@broken.example>: Sender address rejected: Domain not found"),
    ({"sender": ALICE}, f"553 5.7.1 <{ALICE}>: Sender address rejected: not logged in"),
    ({"to": "postmaster@example.test"}, "450 4.7.1 holidays"),
    ({"to": "bob@example.test"}, "550 5.1.1"),
    ({"to": "a@known.example"}, "554 5.7.1 Relay access denied"),  # although the list ends in permit
]


@pytest.mark.parametrize(("attempt", "reply"), REFUSED)
def test_swaks_is_refused_and_explain_says_the_same(need, house, attempt, reply):
    assert f"<** {reply}" in swaks(need, house, **attempt, code=24)
    options = {"client": attempt.get("source", "127.0.0.1"), "helo": attempt.get("helo", "helo.known.example")}
    options |= {"from": attempt.get("sender", "a@known.example"), "to": attempt.get("to", ALICE)}
    said = house.cli("smtp", "explain", *(f"--{name}={value}" for name, value in options.items()), check=False)
    assert said.returncode == 1
    assert f": {reply}" in said.stdout


def test_swaks_is_let_in_and_the_log_says_what_would_have_been(need, house):
    swaks(need, house, source="127.0.0.68", code=0)  # on a black list, and on a white one
    swaks(need, house, source="127.0.0.72", code=0)
    assert b"X-From: seventy-two\r\n" in house.messages(ALICE)[-1]
    warning = house.wait_for("restriction-warns", peer="127.0.0.72")
    assert "reject_unknown_client_hostname" in warning["reason"]


def test_a_proxy_says_by_xclient_who_its_client_is(need, house):
    proxied = ["--xclient-addr", "127.0.0.66", "--xclient-name", "x.example"]
    assert "blocked using bl.example" in swaks(need, house, *proxied, source="127.0.0.99", code=24)
    assert house.wait_for("refused", peer="127.0.0.66", helo="helo.known.example")
    assert "XCLIENT" not in swaks(need, house, source="127.0.0.66", code=24)  # it is not announced to others
    proxied = ["--xclient-addr", "192.0.2.7", "--xclient-login", ALICE]
    assert "<-  250 2.0.0" in swaks(
        need, house, *proxied, source="127.0.0.99", sender=ALICE, to="a@x.example", code=0
    )


def proxied(house, header: bytes, source="127.0.0.98") -> bytes:
    address = ("127.0.0.1", house.ports["smtp"])
    with socket.create_connection(address, timeout=30, source_address=(source, 0)) as connection:
        connection.sendall(header)
        with connection.makefile("rb") as answers:
            greeting = answers.readline()
            if not greeting.startswith(b"220"):
                return greeting
            connection.sendall(b"HELO helo.known.example\r\nMAIL FROM:<a@known.example>\r\n")
            connection.sendall(f"RCPT TO:<{ALICE}>\r\nQUIT\r\n".encode())
            return answers.read()


def test_a_proxy_says_by_its_header_who_its_client_is(house):
    v1 = b"PROXY TCP4 127.0.0.66 127.0.0.1 5000 25\r\n"
    v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((127, 0, 0, 66, 127, 0, 0, 1, 1, 1, 0, 25))
    for header in (v1, v2):
        assert b"Client host [127.0.0.66] blocked" in proxied(house, header)
    assert b"250 2.1.5 Ok" in proxied(house, b"PROXY UNKNOWN\r\n")
    assert proxied(house, b"EHLO nobody.example\r\n") == b""  # it has to be said
    assert b"500 5.5.2" in proxied(house, v1, source="127.0.0.1")  # and is believed from nobody else


class Policy(socketserver.ThreadingTCPServer):
    """A policy service: says ``answers[recipient]``, and notes what it was asked."""

    daemon_threads = True
    allow_reuse_address = True

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            asked = {}
            for line in self.rfile:
                name, _, value = line.decode().rstrip("\n").partition("=")
                if name:
                    asked[name] = value
                    continue
                self.server.asked.append(asked)
                self.wfile.write(f"action={self.server.answers.get(asked['sender'], 'DUNNO')}\n\n".encode())
                asked = {}


@pytest.fixture
def policy():
    with Policy(("127.0.0.1", 0), Policy.Handler) as server:
        server.asked, server.answers = [], {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def serve(tmp_path):
    """A server with such settings."""
    running = []

    def start(settings: str) -> House:
        house = House(tmp_path, settings)
        running.append(house)
        house.cli("domain", "add", "example.test")
        house.add_account(ALICE)
        house.start()
        return house

    yield start
    for house in running:
        house.stop()


def test_a_policy_service_is_asked_and_obeyed(need, serve, policy):
    port = policy.server_address[1]
    with NameServer(dict(ZONE)) as names:
        house = serve(
            f'[dns]\nservers = ["{names.address}"]\n[smtp]\n'
            f'recipient_restrictions = ["check_policy_service inet:127.0.0.1:{port}"]\n'
        )
        policy.answers = {
            "bad@known.example": "REJECT 5.7.9 says the service",
            "x@known.example": "PREPEND X-P: seen",
        }
        assert "554 5.7.9 says the service" in swaks(need, house, sender="bad@known.example", code=24)
        swaks(need, house, sender="x@known.example", code=0)
        assert b"X-P: seen\r\n" in house.only(ALICE)
        asked = policy.asked[0]
        wanted = {"request": "smtpd_access_policy", "protocol_state": "RCPT", "protocol_name": "ESMTP"}
        wanted |= {"client_address": "127.0.0.1", "client_name": "client.example", "recipient": ALICE}
        assert {name: asked[name] for name in wanted} == wanted
        policy.answers = {"a@known.example": "FILTER x:y"}
        assert "451 4.3.5" in swaks(need, house, code=24)


def test_postgrey_greylists_for_us(need, serve, tmp_path):
    program = need("postgrey")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    state = tmp_path / "postgrey"
    state.mkdir()
    command = [
        program,
        f"--inet=127.0.0.1:{port}",
        f"--dbdir={state}",
        "--delay=2",
        f"--user={getpass.getuser()}",
        f"--group={grp.getgrgid(os.getgid()).gr_name}",
    ]
    postgrey = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "postgrey does not answer"
                assert postgrey.poll() is None
                time.sleep(0.05)
        house = serve(f'[smtp]\nrecipient_restrictions = ["check_policy_service 127.0.0.1:{port}"]\n')
        assert "Greylisted" in swaks(need, house, code=24)
        deadline = time.monotonic() + 30
        while "<-  250 2.0.0" not in swaks(need, house, code=None):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert b"X-Greylist: delayed" in house.only(ALICE)
    finally:
        postgrey.terminate()
        postgrey.wait(10)


def test_our_own_greylist_lets_in_the_second_time(need, serve):
    house = serve('[greylist]\nwait_seconds = 1\n[smtp]\nrecipient_restrictions = ["check_greylist"]\n')
    assert "450 4.7.1 Greylisted: please try again in 1 seconds" in swaks(need, house, code=24)
    deadline = time.monotonic() + 30
    while "<-  250 2.0.0" not in swaks(need, house, code=None):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_client_has_its_rate_over_all_workers(need, serve):
    house = serve("[rates]\nexempt_networks = []\nmessages_per_minute = 3\nsessions_per_client = 2\n")
    sent = [swaks(need, house, code=None) for _ in range(8)]
    deferred = [said for said in sent if "<** 450 4.7.1 Too many messages from you" in said]
    assert len(deferred) >= 2  # a minute may end meanwhile
    address = ("127.0.0.1", house.ports["smtp"])
    with socket.create_connection(address) as one, socket.create_connection(address) as two:
        assert [one.recv(100)[:3], two.recv(100)[:3]] == [b"220", b"220"]
        with socket.create_connection(address) as three:
            assert three.recv(100).startswith(b"421 4.7.0 Too many sessions")
        with socket.create_connection(address, source_address=("127.0.0.77", 0)) as other:
            assert other.recv(100).startswith(b"220")


def test_who_speaks_before_the_greeting_is_turned_away(need, serve):
    house = serve("[smtp]\ngreet_wait_seconds = 2\n")
    address = ("127.0.0.1", house.ports["smtp"])
    with socket.create_connection(address, timeout=30) as early:
        early.sendall(b"EHLO spammer.example\r\n")
        assert early.makefile("rb").read() == b"554 5.5.1 Protocol error: you spoke before you were greeted\r\n"
    assert house.wait_for("spoke-early")["said"] == "EHLO spammer.example\r\n"
    swaks(need, house, code=0)


def test_who_errs_often_is_answered_late_and_then_not_at_all(serve):
    house = serve("[smtp]\nsoft_error_limit = 2\nmax_errors = 4\nerror_wait_seconds = 1\n")
    begun = time.monotonic()
    with house.connect("smtp") as client, client.makefile("rb") as answers:
        answers.readline()
        for _ in range(3):
            client.sendall(b"NONSENSE\r\n")
            assert answers.readline().startswith(b"500")
        client.sendall(b"NONSENSE\r\n")
        assert b"421 4.7.0 Too many errors" in answers.read()
    assert time.monotonic() - begun >= 1


def test_a_broken_table_is_told_at_the_start(tmp_path):
    house = House(tmp_path, '[smtp]\nsender_restrictions = ["check_sender_access senders"]\n')
    house.data.mkdir()
    (house.data / "senders").write_text("a.example OK\nb.example FILTER\n")
    done = house.cli("serve", check=False)
    assert done.returncode == 2
    assert f"{house.data}/senders:2: 'FILTER' is no action" in done.stderr
