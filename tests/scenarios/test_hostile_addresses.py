"""Addresses that are attacks: nothing is written outside the mailbox they name, if they name one."""

import pytest
from tests.hostile import Client, inbox, running, tree, unharmed

ALICE = [
    b"ALICE@EXAMPLE.TEST",
    b'"alice"@example.test',
    b'"al\\ice"@example.test',
    b"alice+x/y@example.test",
    b"@example.org:alice@example.test",
]
NOBODY = [
    b'"alice+../../../x"@example.test',
    b'"alice+.."@example.test',
    b"alice+../../../x@example.test",
    b"alice\0@example.test",
    b"../alice@example.test",
    b"alice/../bob@example.test",
    b'"../bob"@example.test',
    b'"bob/../alice"@example.test',
    b"bob/@example.test",
    b"..%2fbob@example.test",
    b"'; DROP TABLE users; --@example.test",
    b'"\'; DROP TABLE users; --"@example.test',
    b"\"' OR '1'='1\"@example.test",
    b"%@example.test",
    b"*@example.test",
    b"_lice@example.test",
    b"@example.test",
    b"a" * 10_000 + b"@example.test",
    b"a" * 65 + b"@example.test",
    b"alice@" + b"e" * 10_000,
    b"alice@" + b"e." * 130 + b"test",
    b"|touch owned@example.test",
    b'"|touch owned"@example.test',
    b"|touch",
    b"/etc/passwd",
    b"/etc/passwd@example.test",
    b":include:/etc/passwd@example.test",
    b"error:250 fine@example.test",
    b"alice\x01@example.test",
    b"alice\x7f@example.test",
    b'"a\x08b"@example.test',
    b'"a b"@example.test',
    b"alice@[127.0.0.1]",
    b"alice@[IPv6:::1]",
    b"alice@[../..]",
    b"alice@localhost",
    b"alice@mail.example.test",
    b"alice@..",
    b"alice@example..test",
    b"alice@example.test/..",
    b"alice@-example.test",
    "alice@exämple.test".encode(),
    "älice@example.test".encode(),
    "аlice@example.test".encode(),
    b"al\xc3\x28ice@example.test",
    b"alice@xn--\xff.test",
    b"alice@xn--a.test",
    b"alice%example.test@example.org",
    b"example.test!alice",
    b"alice@example.test@example.org",
    b"alice@example.test> <bob@example.test",
    b"alice@example.test\r\nRCPT TO:<bob@example.test",
    b"alice",
]


BOOKS = ("guard", "posthouse", "queue/index")
"""The databases that a server makes when it starts or first needs them, whatever clients say."""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    yield from running(tmp_path_factory.mktemp("addresses"))


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
@pytest.mark.parametrize("utf8", [b"", b" SMTPUTF8"])
def test_nobody_has_such_an_address_and_nothing_is_written(target, service, utf8):
    before = tree(target.directory)
    with unharmed(target):
        for address in NOBODY:
            for sender in (b"", address):
                with Client(target, service) as client:
                    client.smtp(b"LHLO c.org" if service == "lmtp" else b"EHLO c.org")
                    begun = client.smtp(b"MAIL FROM:<%b>" % sender + utf8)
                    assert begun[:3] in (b"250", b"501", b"500", b"553", b"555"), (sender[:80], begun)
                    reply = client.smtp(b"RCPT TO:<%b>" % address)
                    allowed = (b"501", b"500", b"503", b"550", b"553", b"554", b"555")
                    assert reply[:3] in allowed, (address[:80], reply)
    databases = tuple(f"data/{name}.db{suffix}" for name in BOOKS for suffix in ("", "-shm", "-wal"))
    assert tree(target.directory) - before <= {"server.log", *databases}
    assert inbox(target) == []
    assert inbox(target, "bob@example.test") == []


@pytest.mark.parametrize("address", ALICE)
def test_other_ways_to_write_an_address_lead_to_its_mailbox_only(target, address):
    inbox(target)
    inbox(target, "bob@example.test")
    before = tree(target.directory / "data" / "mail")
    with unharmed(target), Client(target, "lmtp") as client:
        client.smtp(b"LHLO c.org")
        client.smtp(b"MAIL FROM:<>")
        assert client.smtp(b"RCPT TO:<%b>" % address).startswith(b"250 ")
        assert client.smtp(b"DATA").startswith(b"354 ")
        assert client.smtp(b"Subject: to " + address + b"\r\n\r\nhello\r\n.").startswith(b"250 ")
    (message,) = inbox(target)
    assert message.endswith(b"hello\r\n")
    assert inbox(target, "bob@example.test") == []
    new = tree(target.directory / "data" / "mail") - before
    assert all(path.startswith("example.test/alice/") for path in new)


NAMES = [b"a b", b"a\0b", b"x" * 3000, b"[127.0.0.1", b"\xff", b"a>\r\nb", b"<script>", b"$(id)"]
MAIL = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:10]))
def test_names_in_hello_do_not_reach_the_header_as_they_are(target, name):
    with unharmed(target), Client(target, "smtp") as client:
        client.flood([b"EHLO %b\r\n" % name, MAIL])
    for message in inbox(target):
        head = message.partition(b"\r\n\r\n")[0]
        assert head.count(b"\r\nReceived:") + head.startswith(b"Received:") == 1
        assert all(line[:1] in b" \t" or b":" in line for line in head.split(b"\r\n"))
        assert b"\0" not in head


def test_an_account_with_slashes_and_dots_in_its_name_lies_in_the_mail_root(target):
    before = tree(target.directory)
    for number, address in enumerate(("../../x@example.test", "/etc/x@example.test", "x@..", "x@../..", "x")):
        done = target.cli("account", "add", address, "--password-stdin", stdin="secret\n", check=False)
        assert "Traceback" not in done.stderr
        if done.returncode:
            continue
        with Client(target, "lmtp") as client:
            client.smtp(b"LHLO c.org")
            client.smtp(b"MAIL FROM:<>")
            assert client.smtp(b"RCPT TO:<%b>" % address.encode()).startswith(b"250 ")
            assert client.smtp(b"DATA").startswith(b"354 ")
            assert client.smtp(b"Subject: x\r\n\r\nx%d\r\n." % number).startswith(b"250 ")
    made = tree(target.directory) - before
    inside = (
        "data/mail/example.test/",
        "data/posthouse.db",
        "data/guard.db",
        "data/journal/",
        "data/tmp/",
        "server.log",
    )
    assert not {path for path in made if not path.startswith(inside)}
