"""GENURLAUTH, URLFETCH and RESETKEY (RFC 4467) with two accounts over real sockets."""

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.urlauth import parse_gen_url_auth, parse_reset_key, parse_url, parse_url_fetch

MESSAGE = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n"
    b"--b\r\n\r\nSi vis pacem, para bellum.\r\n\r\n--b--\r\n"
)
BASE = "imap://alice%40example.test@mail.example.test/INBOX/;uid=1/;section=2"


@pytest.fixture
def alice(client):
    client.append(MESSAGE)
    return client


@pytest.fixture
def bob(live, connect, alice):
    one = connect(live, login=False)
    one.ok("LOGIN bob@example.test secret")
    return one


def generated(client, access: str, base: str = BASE) -> str:
    (line,) = client.ok(f'GENURLAUTH "{base};urlauth={access}" INTERNAL')
    assert line.startswith(b"* GENURLAUTH ")
    return line.split()[2].strip(b'"').decode()


def fetched(client, url: str) -> bytes:
    (line,) = client.ok(f'URLFETCH "{url}"')
    head = b'* URLFETCH "%b" ' % url.encode()
    bare = b"* URLFETCH %b " % url.encode()
    assert line.startswith((head, bare))
    return line[len(head if line.startswith(head) else bare) :]


TEXT = b"{28}\r\nSi vis pacem, para bellum.\r\n\r\n"


def test_a_part_is_fetched_by_who_may(alice, bob):
    """RFC 4467 §7: the example; the token is at least 128 bits."""
    url = generated(alice, "user+bob%40example.test")
    assert url.startswith(f"{BASE};urlauth=user+bob%40example.test:internal:01")
    assert len(url.rpartition(":")[2]) >= 32
    assert fetched(bob, url) == TEXT
    assert fetched(alice, url) == b"NIL\r\n"


@pytest.mark.parametrize(
    ("access", "is_answered"),
    [("authuser", True), ("anonymous", True), ("user+carol%40x", False), ("submit+bob", False)],
)
def test_access_is_for_whom_it_says(alice, bob, access: str, is_answered: bool):
    """RFC 4467 §3: nobody here is a message submission entity."""
    assert fetched(bob, generated(alice, access)) == (TEXT if is_answered else b"NIL\r\n")


def test_nothing_in_the_url_may_be_changed(alice, bob):
    """RFC 4467 §6."""
    url = generated(alice, "authuser")
    rump, token = url.rsplit(":", 1)
    for changed in (
        url.replace("section=2", "section=1"),
        url.replace("uid=1", "UID=1"),
        url.replace("mail.example.test", "MAIL.example.test"),
        url.replace("authuser", "anonymous"),
        f"{rump}:{'0' * len(token)}",
        f"{rump}:{token[:-1]}{'0' if token[-1] != '0' else '1'}",
        f"{rump}:{token[:32]}",
        rump,
        f"{BASE};urlauth=authuser",
        BASE,
        "imap://alice%40example.test@mail.example.test/INBOX",
        url.replace("alice", "bob"),
        url.replace("alice", "nobody"),
        url.replace("INBOX", "None"),
    ):
        assert fetched(bob, changed) == b"NIL\r\n", changed
    assert fetched(bob, url) == TEXT


def test_it_is_good_until_it_expires(alice, bob):
    """RFC 4467 §3."""
    assert fetched(bob, generated(alice, "authuser", f"{BASE};expire=2999-01-01T00:00:00Z")) == TEXT
    assert fetched(bob, generated(alice, "authuser", f"{BASE};expire=2020-01-01T00:00:00+01:00")) == b"NIL\r\n"
    for wrong in ("2020", "2020-01-01T00:00:00", "never"):
        assert alice.refused(f'GENURLAUTH "{BASE};expire={wrong};urlauth=authuser" INTERNAL').startswith(b"BAD")


def test_keys_are_changed_and_taken_away(live, alice, bob):
    """RFC 4467 §7: RESETKEY; §8: URLMECH."""
    alice.ok("CREATE Other")
    alice.append(MESSAGE, "Other")
    one, other = generated(alice, "authuser"), generated(alice, "authuser", BASE.replace("INBOX", "Other"))
    untagged, tagged = alice.command("RESETKEY INBOX INTERNAL")
    assert (untagged, tagged) == ([], b"OK [URLMECH INTERNAL] RESETKEY completed")
    assert fetched(bob, one) == b"NIL\r\n"
    assert fetched(bob, other) == TEXT
    one = generated(alice, "authuser")
    assert fetched(bob, one) == TEXT
    alice.ok("RESETKEY")
    assert fetched(bob, one) == fetched(bob, other) == b"NIL\r\n"
    assert not os.path.exists(f"{live.settings.path('mail')}/example.test/alice/posthouse-urlauth")
    assert alice.refused("RESETKEY INBOX XSAMPLE").startswith(b"NO")
    assert alice.refused("RESETKEY None").startswith(b"NO [NONEXISTENT]")
    assert b"* OK [URLMECH INTERNAL] URLs that others may use\r\n" in alice.ok("EXAMINE INBOX")


def test_several_at_once_whole_messages_and_parts_of_them(alice, bob):
    whole = BASE.replace("/;section=2", "")
    lines = alice.ok(
        f'GENURLAUTH "{whole};URLAUTH=authuser" INTERNAL "{BASE}/;partial=3.3;URLAUTH=anonymous" internal'
    )
    first, second = (word.strip(b'"').decode() for word in lines[0].split()[2:])
    (line,) = bob.ok(f'URLFETCH "{first}" "{second}" "imap://x@y/z/;uid=1;urlauth=anonymous"')
    assert b" {%d}\r\n%b " % (len(MESSAGE), MESSAGE) in line
    assert b" {3}\r\nvis " in line
    assert line.endswith(b" NIL\r\n")


def test_a_message_that_went_is_nothing(alice, bob):
    url = generated(alice, "authuser")
    alice.ok("SELECT INBOX")
    alice.ok("STORE 1 +FLAGS (\\Deleted)")
    alice.ok("EXPUNGE")
    assert fetched(bob, url) == b"NIL\r\n"


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}",
        f"{BASE};urlauth=nobody",
        f"{BASE};urlauth=user+",
        "imap://mail.example.test/INBOX/;uid=1;urlauth=authuser",
        "imap://bob%40example.test@mail.example.test/INBOX/;uid=1;urlauth=authuser",
        "imap://none%40example.test@mail.example.test/INBOX/;uid=1;urlauth=authuser",
        "imap://alice%40example.test@mail.example.test/None/;uid=1;urlauth=authuser",
        "imap://alice%40example.test@mail.example.test/..%2Fbob/;uid=1;urlauth=authuser",
        "imap://alice%40example.test@mail.example.test/Shared%2Fbob%40example.test%2FINBOX/;uid=1;urlauth=authuser",
        "imap://alice%40example.test@mail.example.test/INBOX;urlauth=authuser",
        "http://alice%40example.test@mail.example.test/INBOX/;uid=1;urlauth=authuser",
        "",
    ],
)
def test_urls_are_made_of_ones_own_messages_only(alice, url: str):
    """RFC 4467 §7."""
    assert alice.refused(f'GENURLAUTH "{url}" INTERNAL').startswith(b"BAD")


def test_other_mechanisms_are_not_known(alice):
    assert alice.refused(f'GENURLAUTH "{BASE};urlauth=authuser" XSAMPLE').startswith(b"NO")


@given(st.text(max_size=60), st.binary(max_size=60))
def test_whatever_is_sent_is_read_or_bad(text: str, data: bytes):
    parse_url(text)
    parse_url(f"imap://{text}@h/INBOX/;uid=1;expire={text};urlauth=user+{text}:internal:{'0' * 32}")
    for parse in (parse_gen_url_auth, parse_reset_key, parse_url_fetch):
        with contextlib.suppress(BadCommandError):
            parse(b"a", Cursor(b" " + data))
