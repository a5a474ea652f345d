"""Filters of others that are asked directly: rspamd over HTTP, SpamAssassin's spamd, an ICAP server."""

import asyncio
import re
import socketserver
import tempfile
import threading
from pathlib import Path

import pytest
from tests.interop.milters import Program, free_port
from tests.interop.spamd import start_spamd

from posthouse.config.endpoints import Endpoint
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.icap import IcapFilter
from posthouse.filters.rspamd import RspamdFilter
from posthouse.filters.spamc import SpamcFilter
from posthouse.filters.verdict import Action
from posthouse.journal.content import Content

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
HEAD = b"From: a@far.example\r\nTo: bob@example.test\r\nSubject: hello\r\nMessage-ID: <1@far.example>\r\n\r\n"
RSPAMD = """
options {{
  url_tld = "{place}/tlds"; pidfile = "{place}/pid"; hs_cache_dir = "{place}"; tempdir = "{place}";
  enable_test_patterns = true; dns {{ timeout = 0.1s; retransmits = 1; nameserver = ["127.0.0.1:9"]; }}
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 15; add_header = 6; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
"""


def mail(body: bytes) -> Mail:
    return Mail(
        Content.of(HEAD + body), "trace1", "a@far.example", ("bob@example.test",), client="192.0.2.1", helo="x"
    )


def judged(one: RspamdFilter | SpamcFilter | IcapFilter, body: bytes):
    return asyncio.run(one.judge(mail(body)))


@pytest.fixture(scope="module")
def rspamd(need, tmp_path_factory):
    program, place, port = need("rspamd"), tmp_path_factory.mktemp("rspamd"), free_port()
    place.chmod(0o755)
    (place / "tlds").write_text("com\norg\n")  # with all of them it takes half a minute to start
    (place / "conf").write_text(RSPAMD.format(place=place, port=port))
    running = Program([program, "-f", "-i", "-c", str(place / "conf")], port, place / "log")
    yield RspamdFilter("rspamd", [Endpoint("127.0.0.1", free_port()), Endpoint("127.0.0.1", port)])
    running.stop()


def test_rspamd_gives_a_verdict_even_where_the_first_server_is_away(rspamd):
    spam, tagged, ham = (judged(rspamd, body + b"\r\n") for body in (GTUBE, b"Y" + GTUBE[1:], b"hello"))
    assert (spam.action, str(spam.reply)) == (Action.REJECT, "554 5.7.1 Gtube pattern")
    assert tagged.action is Action.JUNK
    assert ("X-Spam", "Yes") in tagged.headers
    assert [one.kind for one in tagged.findings] == ["spam"]
    assert (ham.action, ham.findings) == (Action.ACCEPT, ())


@pytest.fixture(scope="module")
def spamd(need):
    # Started as root it works as nobody, who does not get into pytest's folders.
    with tempfile.TemporaryDirectory() as place:
        running = start_spamd(need("spamd"), Path(place))
        assert isinstance(running.address, int)
        yield SpamcFilter("spamassassin", [Endpoint("127.0.0.1", running.address)])
        running.stop()


def test_spamd_gives_a_score_and_the_names_of_its_rules(spamd):
    spam, ham = judged(spamd, GTUBE + b"\r\n"), judged(spamd, b"hello\r\n")
    assert (spam.action, spam.score) == (Action.JUNK, 7.5)
    assert "TEST_STRING" in spam.reasons[0]
    assert (ham.action, ham.score) == (Action.ACCEPT, 0.0)


def test_spamd_learns_what_a_user_says(spamd):
    message = mail(b"buy these excellent watches today, cheap and quick\r\n")
    assert asyncio.run(spamd.learn(message, "bob@example.test", is_spam=True))
    assert not asyncio.run(spamd.learn(message, "bob@example.test", is_spam=True))


class IcapServer(socketserver.BaseRequestHandler):
    """Finds a virus in whatever has EICAR in it; 500 to what says so."""

    def handle(self) -> None:
        stream = self.request.makefile("rb")
        places = b""
        while (line := stream.readline()) not in (b"\r\n", b""):
            places = line if line.lower().startswith(b"encapsulated") else places
        stream.read(int(re.findall(rb"res-body=(\d+)", places)[0]))
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.read(2)
        if b"EICAR" in body:
            answer = b"ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar;\r\n\r\n"
        else:
            answer = b"ICAP/1.0 500 No\r\n\r\n" if b"broken" in body else b"ICAP/1.0 204 No Content\r\n\r\n"
        self.request.sendall(answer)


@pytest.fixture(scope="module")
def icap():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), IcapServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield IcapFilter("icap", [Endpoint("127.0.0.1", server.server_address[1])], "avscan")
        server.shutdown()


def test_an_icap_server_finds_a_virus(icap):
    virus, clean = judged(icap, b"x" * 200_000 + b"EICAR\r\n"), judged(icap, b"hello\r\n")
    assert (virus.action, virus.viruses) == (Action.REJECT, ("Eicar",))
    assert clean.action is Action.ACCEPT


def test_a_server_that_cannot_say_is_trouble(icap):
    with pytest.raises(FilterTrouble, match="500"):
        judged(icap, b"broken\r\n")
    with pytest.raises(FilterTrouble):
        judged(SpamcFilter("none", [Endpoint("127.0.0.1", free_port())]), b"")
