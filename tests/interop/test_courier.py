"""A Maildir that Courier made and served for years: whoever read it there notices nothing."""

import imaplib
import re

import pytest
from tests.interop.courier import Courier, unpacked
from tests.interop.house import fetch_and_keep, mail, subscriptions, uidls

UID = re.compile(rb"UID (\d+)")
SUBJECT = re.compile(rb"Subject: ([^\r]*)")
FOLDERS = {
    "INBOX": "INBOX",
    "Work": "INBOX.Work",
    "A&-B.2026": "INBOX.A&-B.2026",
    "Entw&APw-rfe": "INBOX.Entw&APw-rfe",
}


@pytest.fixture(scope="module")
def courier_files(tmp_path_factory):
    return unpacked(tmp_path_factory.mktemp("courier"))


@pytest.fixture
def maildir(house, alice):
    """Alice's, where no program of ours has been yet."""
    path = house.data / "mail" / "example.test" / alice.partition("@")[0]
    for place in ("cur", "new", "tmp"):
        (path / place).mkdir(parents=True)
    return path


def deliver(maildir, *numbers) -> None:
    """As maildrop does."""
    for number in numbers:
        data = mail(f"letter {number}").replace(b"\r\n", b"\n")
        (maildir / "new" / f"17000{number:05d}.M{number}P1V0I{number}.host,S={len(data)}").write_bytes(data)


def contents(imap: imaplib.IMAP4, folders) -> dict:
    """Of each folder UIDVALIDITY, UIDNEXT and the messages: UID, subject and flags."""
    found = {}
    for name, asked in folders.items():
        answer, (count,) = imap.select(f'"{asked}"', readonly=True)
        assert answer == "OK", count
        (validity,) = imap.response("UIDVALIDITY")[1]
        rows = set()
        if int(count):
            lines = imap.fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            for head, field in (line for line in lines if isinstance(line, tuple)):
                flags = frozenset(imaplib.ParseFlags(head)) - {rb"\Recent"}
                rows.add((int(UID.search(head)[1]), SUBJECT.search(field)[1], flags))
        found[name] = (int(validity), rows)
    return found


def work_with_it(courier: Courier, maildir) -> None:
    """Folders, keywords, subscriptions, expunged messages; then a POP3 session; then more mail."""
    deliver(maildir, *range(1, 7))
    with courier.imap() as imap:
        for name in FOLDERS.values():
            if name != "INBOX":
                assert imap.create(f'"{name}"')[0] == "OK"
        for name in ("INBOX", "INBOX.Work", "INBOX.Entw&APw-rfe"):
            imap.subscribe(f'"{name}"')
        imap.select("INBOX")
        imap.store("1", "+FLAGS", r"(\Seen $Label1 Holiday)")
        imap.store("2", "+FLAGS", r"(\Flagged Holiday)")
        imap.store("2", "-FLAGS", "(Holiday)")
        imap.copy("1,3:5", "INBOX.Work")
        imap.copy("6", '"INBOX.Entw&APw-rfe"')
        imap.copy("6", '"INBOX.A&-B.2026"')
        imap.store("3", "+FLAGS", r"(\Deleted)")
        imap.expunge()
        imap.select("INBOX.Work")
        imap.store("2", "+FLAGS", r"(\Answered Work Holiday)")
        imap.store("1", "+FLAGS", r"(\Deleted)")
        imap.expunge()


def test_a_maildir_of_couriers_is_taken_over_and_no_client_downloads_again(
    courier_files, house, alice, maildir, tmp_path, need
):
    need("fetchmail")
    courier = Courier(courier_files, maildir)
    work_with_it(courier, maildir)
    port = courier.serve_pop3(2)
    assert fetch_and_keep(tmp_path, port, alice) == 5
    deliver(maildir, 7, 8)  # 7 and 8 were seen by POP3 first
    with courier.imap() as imap:
        imap.select("INBOX")
        imap.store("7", "+FLAGS", r"(\Draft)")
    known = uidls(port, alice)
    with courier.imap() as imap:
        before = contents(imap, FOLDERS)
        subscribed = subscriptions(imap)
    assert len(before["INBOX"][1]) == len(known) == 7
    assert all(re.fullmatch(rb"UID\d+-\d+", uidl) for uidl in known.values())
    deliver(maildir, 9)

    assert fetch_and_keep(tmp_path, house.ports["pop3"], alice) == 3, "fetchmail has taken 7 and 8 never before"
    assert fetch_and_keep(tmp_path, house.ports["pop3"], alice) == 0
    now = uidls(house.ports["pop3"], alice)
    assert known.items() < now.items()
    assert now[b"letter 9"] not in known.values()
    with house.imap(alice) as imap:
        after = contents(imap, {name: name for name in FOLDERS})
        assert subscriptions(imap) == subscribed
    (fresh,) = after["INBOX"][1] - before["INBOX"][1]
    assert fresh[:2] == (max(uid for uid, _, _ in before["INBOX"][1]) + 1, b"letter 9")
    after["INBOX"][1].discard(fresh)
    assert after == before

    # Whatever is derived may go, and one of the two that say which UID is whose.
    for place in maildir.glob("**/posthouse.index*"):
        place.unlink()
    assert uidls(house.ports["pop3"], alice) == now
    (maildir / "dovecot-uidlist").unlink()
    assert uidls(house.ports["pop3"], alice) == now
