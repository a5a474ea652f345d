"""Messages that look like two, to a real Postfix and from a lax one: each side has as many as the other says."""

import re
import socket
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import House, until
from tests.interop.postfix import Postfix
from tests.interop.sink import Sink
from tests.scenarios.test_hostile_smtp import BARE_ENDS, ODD_ENDS

PEOPLE = ("alice@example.test", "bob@example.test")
MAIN = """\
smtpd_forbid_bare_newline = no
smtpd_forbid_unauth_pipelining = no
smtpd_recipient_restrictions = permit_mynetworks, reject
transport_maps = inline:{example.test=smtp:[127.0.0.1]:%d}
relayhost = [127.0.0.1]:%d
smtp_tls_security_level = none
smtpd_discard_ehlo_keywords = chunking
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    running = House(tmp_path_factory.mktemp("us"), '[smtp]\nmynetworks = ["127.0.0.0/8"]\n', workers=1)
    running.cli("domain", "add", "example.test")
    for address in PEOPLE:
        running.add_account(address)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def sink():
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def postfix(need, house, sink):
    """Hands what is for example.test to Posthouse and everything else to the sink."""
    need("postfix")
    with tempfile.TemporaryDirectory(prefix="posthouse-") as path:
        Path(path).chmod(0o755)
        with Postfix(Path(path) / "postfix", MAIN % (house.ports["smtp"], sink.port)) as running:
            house.cli("transport", "add", "postfix.test", f"smtp:[127.0.0.1]:{running.port}")
            yield running


def say(port, *parts):
    """A session that waits for nothing once it has said hello; what was answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.recv(1000)
        sock.sendall(b"EHLO client.example.org\r\n")
        sock.recv(1000)
        for part in parts:
            sock.sendall(part)
        return b"".join(iter(lambda: sock.recv(4096), b""))


def hidden(recipient):
    words = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<%b>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n"
    return words % recipient


@pytest.mark.parametrize("end", [b"\r\n.\r\n", b"\r\n.\r\n.\r\n", b"\r\n..\r\n", *ODD_ENDS])
def test_one_message_of_ours_is_one_at_postfix(house, postfix, sink, end):
    body = b"x" + end + hidden(b"victim@postfix.test")
    content = b"Subject: outer\r\n\r\n" + body
    chunk = b"BDAT %d LAST\r\n" % len(content) + content
    begin = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<one@postfix.test>\r\n"
    said = say(house.ports["smtp"], begin, chunk, b"QUIT\r\n").splitlines()
    assert [line[:3] for line in said[-2:]] == [b"250", b"221"]
    (taken,) = until(lambda: sink.taken_for("one@postfix.test"))
    sink.taken.clear()
    assert taken.data.partition(b"\r\n\r\n")[2] in (body, body.replace(b"\0", b""))
    assert not [each for each in sink.asked if "victim" in each]


def arrived(house):
    return sum(len(list((house.data / "mail" / "example.test").glob(f"{name}/new/*"))) for name in ("alice", "bob"))


@pytest.mark.parametrize("end", [*BARE_ENDS, *ODD_ENDS])
def test_what_postfix_takes_for_messages_are_as_many_here(house, postfix, end):
    """A Postfix as it was before December 2023 takes some of these ends for one: CVE-2023-51764."""
    before, offset = arrived(house), len(postfix.log)
    begin = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: outer\r\n\r\nx"
    said = say(postfix.port, begin, end + hidden(b"bob@example.test"))
    queued = re.findall(rb"250 2\.0\.0 Ok: queued as", said)
    assert len(queued) in (1, 2)

    def ends():
        found = re.findall(r"to=<(?:alice|bob)@example\.test>.* status=(\w+)", postfix.log[offset:])
        return found if len(found) == len(queued) else None

    sent = until(ends).count("sent")
    assert arrived(house) - before == sent
