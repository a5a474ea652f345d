"""A real Postfix takes and delivers mail by what the directory says: the old front end, still there, by socketmap."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import mail, until
from tests.interop.neighbours import ALICE, BOB, Neighbour
from tests.interop.postfix import Postfix

CAROL = "carol@bare.test"
OWNER = pwd.getpwnam("nobody")
"""Whose the Maildirs are: Posthouse serves as this user, and virtual(8) delivers as it."""
MAIN = """\
virtual_alias_domains =
virtual_alias_maps = {lookups}:virtual
virtual_mailbox_domains = {lookups}:domains
virtual_mailbox_maps = {lookups}:mailbox
transport_maps = {lookups}:transport
relocated_maps = {lookups}:relocated
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
virtual_mailbox_base = {root}
virtual_minimum_uid = 100
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_error_sleep_time = 0
"""
# virtual(8) takes no answer of a program's for who owns which file: it has a file of its own.
MASTER = """\
{port} inet n - n - - smtpd
virtual unix - n n - - virtual
 -o virtual_mailbox_maps=texthash:{mailboxes}
"""


@pytest.fixture(scope="module")
def directory():
    """Where Postfix's user may go, which is not so with pytest's own."""
    with tempfile.TemporaryDirectory(prefix="posthouse-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def neighbour(directory):
    """example.test has a transport row, ``virtual:``; bare.test and cat.test have a bare row, and so the default."""
    root = directory / "mail"
    running = Neighbour(directory / "posthouse", f'user = "{OWNER.pw_name}"\n[mail]\nroot = "{root}"\n')
    running.sql("INSERT INTO users (email, clear, maildir) VALUES (?, 'secret', 'bare.test/carol/')", CAROL)
    for key, destination in (
        ("bare.test", "hosted"),
        ("cat.test", "hosted"),
        ("@cat.test", "@example.test"),
        ("@example.test", CAROL),
        ("team@bare.test", f"{ALICE}, {CAROL}"),
        ("dead@bare.test", "nobody@bare.test"),
        ("loop@bare.test", "pool@bare.test"),
        ("pool@bare.test", "loop@bare.test"),
    ):
        running.sql("INSERT INTO virtual (email, destination) VALUES (?, ?)", key, destination)
    running.sql("INSERT INTO relocated (email, destination) VALUES ('gone@bare.test', 'new@example.org')")
    (root / "example.test").mkdir(parents=True)
    for path in (root, root / "example.test"):
        os.chown(path, OWNER.pw_uid, OWNER.pw_gid)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def postfix(need, directory, neighbour):
    need("postfix")
    mailboxes = directory / "mailboxes"
    mailboxes.write_text(f"{ALICE} example.test/alice/\n{BOB} example.test/bob/\n")
    main = MAIN.format(
        lookups=f"socketmap:unix:{neighbour.sockets['socketmap']}",
        lmtp=neighbour.ports["lmtp"],
        root=directory / "mail",
        uid=OWNER.pw_uid,
        gid=OWNER.pw_gid,
    )
    with Postfix(directory / "postfix", main, MASTER.replace("{mailboxes}", str(mailboxes))) as running:
        yield running


def deliver(postfix: Postfix, recipient: str, subject: str) -> tuple[int, bytes]:
    """The answer to RCPT TO; where it is yes, the message follows."""
    with postfix.session() as session:
        session.ehlo()
        session.mail("you@example.org")
        answer = session.rcpt(recipient)
        if answer[0] == 250:
            assert session.data(mail(subject))[0] == 250
        return answer


def arrives(neighbour: Neighbour, postfix: Postfix, address: str, subject: str) -> bool:
    found = until(lambda: any(f"Subject: {subject}\r\n".encode() in each for each in neighbour.messages(address)))
    assert found, postfix.log
    return found


@pytest.mark.parametrize(
    ("recipient", "mailboxes"),
    [
        (ALICE, [ALICE]),
        ("alice+lists@example.test", [ALICE]),
        ("Team+x@bare.test", [ALICE, CAROL]),
        ("bob@cat.test", [BOB]),
        ("anybody@example.test", [CAROL]),
    ],
)
def test_mail_is_delivered_where_the_directory_says(postfix, neighbour, recipient, mailboxes):
    """By virtual(8) into the Maildirs of example.test, by LMTP to those of bare.test; IMAP sees both."""
    subject = f"for {recipient}"
    assert deliver(postfix, recipient, subject)[0] == 250
    assert all(arrives(neighbour, postfix, mailbox, subject) for mailbox in mailboxes)


@pytest.mark.parametrize(
    ("recipient", "code", "text"),
    [
        ("gone@bare.test", 550, b"5.1.6"),
        ("nobody@bare.test", 550, b"5.1.1"),
        ("dead@bare.test", 550, b"5.1.1"),
        ("loop@bare.test", 451, b"4.3.0"),
    ],
)
def test_what_posthouse_would_refuse_or_defer_is_so_at_postfixs_door(postfix, recipient, code, text):
    answer = deliver(postfix, recipient, "never")
    assert (answer[0], text in answer[1]) == (code, True), answer


def test_a_row_counts_from_now_on(postfix, neighbour):
    neighbour.cli("alias", "add", "new@bare.test", ALICE)
    until(lambda: deliver(postfix, "new@bare.test", "a new alias")[0] == 250)
    assert arrives(neighbour, postfix, ALICE, "a new alias")


def test_postmap_asks_every_way(postfix, neighbour):
    lookups = f"socketmap:unix:{neighbour.sockets['socketmap']}"
    asked = {
        f"{lookups}:mailbox": "example.test/alice/",
        f"{lookups}:uid": "1001",
        f"{lookups}:senders": ALICE,
        f"{lookups}:transport": "virtual:",
        f"{lookups}:virtual": None,
        f"tcp:127.0.0.1:{neighbour.ports['tcp_table.senders']}": ALICE,
        f"tcp:127.0.0.1:{neighbour.ports['tcp_table.virtual']}": None,
    }
    assert {table: postfix.look_up(table, ALICE) for table in asked} == asked


def test_nothing_is_refused_for_good_while_posthouse_is_away(postfix, neighbour):
    neighbour.stop()
    try:
        assert deliver(postfix, ALICE, "later")[0] in (421, 451)
    finally:
        neighbour.start()
    until(lambda: deliver(postfix, ALICE, "later")[0] == 250)
    assert arrives(neighbour, postfix, ALICE, "later")
