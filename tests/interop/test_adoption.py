"""The classic set-up at work, then taken over as it is: same passwords, same Maildirs, same UIDs."""

import hashlib
import imaplib
import os
import poplib
import re
import shutil
import smtplib
from base64 import b64encode
from contextlib import closing, contextmanager

import pytest
from tests.databases import new_folder
from tests.interop.house import PASSWORD, House, fetch_and_keep, mail, subscriptions, uidls, until
from tests.interop.oldsetup import DOMAIN, OWNER, TABLES, OldSetup

UID = re.compile(rb"UID (\d+)")
MESSAGE_ID = re.compile(rb"Message-ID: *<([^>]*)>", re.IGNORECASE)
MESSAGES = 5


@pytest.fixture
def old(mariadb, need):
    """anna's password is in clear, bert's hashed, carla is disabled; aliases, a catch-all with self-rows as Postfix
    wants them, and somebody who has moved."""
    if os.geteuid() != 0:
        pytest.skip("only root can start Postfix and Dovecot")
    need("postfix")
    need("dovecot")
    mariadb.execute(TABLES)
    setup = OldSetup(mariadb)
    setup.add_user("anna", PASSWORD)
    salt = b"salt"
    hashed = b64encode(hashlib.sha256(PASSWORD.encode() + salt).digest() + salt).decode()
    setup.add_user("bert", f"{{SSHA256}}{hashed}")
    setup.add_user("carla", PASSWORD, postfix="n")
    setup.add_user("dora", PASSWORD)
    setup.insert("transport", domain=DOMAIN, destination="virtual:")
    for name in ("anna", "bert", "dora"):
        setup.insert("virtual", email=f"{name}@{DOMAIN}", destination=f"{name}@{DOMAIN}")
    setup.insert("virtual", email=f"team@{DOMAIN}", destination=f"anna@{DOMAIN}, bert@{DOMAIN}")
    setup.insert("virtual", email=f"@{DOMAIN}", destination=f"dora@{DOMAIN}")
    setup.insert("relocated", email=f"gone@{DOMAIN}", destination="gone@elsewhere.test")
    setup.insert("virtual", email=f"gone@{DOMAIN}", destination=f"gone@{DOMAIN}")
    setup.start()
    yield setup
    setup.stop()


@contextmanager
def session(port: int, name: str, *, cram: bool = False):
    with imaplib.IMAP4("127.0.0.1", port, timeout=30) as imap:
        if cram:
            imap.login_cram_md5(f"{name}@{DOMAIN}", PASSWORD)
        else:
            imap.login(f"{name}@{DOMAIN}", PASSWORD)
        yield imap


def deliver(port: int, name: str, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
        smtp.sendmail("sender@example.org", [f"{name}@{DOMAIN}"], mail(subject))


def folders(port: int, name: str) -> dict[str, tuple]:
    """Every folder: its UIDVALIDITY, and each message's UID, Message-ID, flags and size."""
    found: dict[str, tuple] = {}
    with session(port, name) as imap:
        # Of a parent that isn't there, servers say \Noselect or \NonExistent, or nothing.
        lines = [line.decode() for line in imap.list()[1]]
        names = [line.rpartition(' "." ')[2].strip('"') for line in lines if "\\no" not in line.lower()]
        for folder in names:
            _, (count,) = imap.select(folder, readonly=True)
            (validity,) = imap.response("UIDVALIDITY")[1]
            rows = set()
            if int(count):
                answer = imap.fetch("1:*", "(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
                for head, field in (part for part in answer if isinstance(part, tuple)):
                    flags = frozenset(flag.decode() for flag in imaplib.ParseFlags(head)) - {"\\Recent"}
                    size = int(re.search(rb"RFC822.SIZE (\d+)", head)[1])
                    rows.add((int(UID.search(head)[1]), MESSAGE_ID.search(field)[1], flags, size))
            found[folder] = (int(validity), frozenset(rows))
    return found


def count(port: int, name: str) -> int:
    with session(port, name) as imap:
        return int(imap.select("INBOX", readonly=True)[1][0])


def pop3_login(port: int, name: str, password: str) -> None:
    with closing(poplib.POP3("127.0.0.1", port, timeout=30)) as pop3:
        pop3.user(f"{name}@{DOMAIN}")
        pop3.pass_(password)
        pop3.quit()


def work_with_it(old: OldSetup) -> None:
    """Mail comes in, is read, flagged, moved and deleted."""
    for number in range(MESSAGES):
        deliver(old.smtp_port, "team", f"to the team {number}")
    deliver(old.smtp_port, "nobody.in.particular", "for the catch-all")
    until(lambda: count(old.imap_port, "bert") == MESSAGES and count(old.imap_port, "dora") == 1)
    until(lambda: count(old.imap_port, "anna") == MESSAGES)
    with session(old.imap_port, "anna", cram=True) as imap:
        imap.create("Archive.2026")
        imap.create("Entw&APw-rfe")
        imap.subscribe("INBOX")
        imap.subscribe("Entw&APw-rfe")
        imap.select("INBOX")
        imap.store("1", "+FLAGS", r"(\Seen \Flagged)")
        imap.store("2", "+FLAGS", "($Forwarded Holiday)")
        imap.copy("2:3", "Archive.2026")
        imap.store("4", "+FLAGS", r"(\Deleted)")
        imap.expunge()


def test_a_classic_set_up_is_adopted_with_its_passwords_maildirs_and_uids(old, tmp_path, need):
    need("fetchmail")
    work_with_it(old)
    before = {name: folders(old.imap_port, name) for name in ("anna", "bert", "dora")}
    tables = old.tables()
    assert len(before["anna"]["INBOX"][1]) == MESSAGES - 1
    known = uidls(old.pop3_port, f"anna@{DOMAIN}")
    assert fetch_and_keep(tmp_path, old.pop3_port, f"anna@{DOMAIN}") == MESSAGES - 1
    with session(old.imap_port, "anna") as imap:
        subscribed = subscriptions(imap)
    assert subscribed == {"INBOX", "Entw&APw-rfe"}

    folder = new_folder("nobody")
    configuration = (
        f'user = "nobody"\n[database]\nurl = "{old.database.url}"\n[mail]\nroot = "{old.root}"\n'
        '[auth]\nmechanisms = ["CRAM-MD5", "SCRAM-SHA-256", "PLAIN", "LOGIN"]\n'
    )
    house = House(folder, configuration)
    try:
        refused = house.cli("serve", check=False)
        assert refused.returncode != 0
        assert "posthouse db adopt" in refused.stderr
        told = house.cli("db", "adopt")
        assert old.tables() == tables
        assert f"@{DOMAIN}" in told.stdout, "the catch-all is something to know of"
        old.stop_dovecot()
        house.start()

        after = {name: folders(house.ports["imap"], name) for name in before}
        assert after == before
        assert uidls(house.ports["pop3"], f"anna@{DOMAIN}") == known
        assert fetch_and_keep(tmp_path, house.ports["pop3"], f"anna@{DOMAIN}") == 0
        with session(house.ports["imap"], "anna") as imap:
            assert subscriptions(imap) == subscribed
        take_part(old, house)
        assert old.tables() == tables
    finally:
        assert house.stop() == 0
        shutil.rmtree(folder)


def take_part(old: OldSetup, house: House) -> None:
    """Everybody logs in as before; Postfix and Posthouse deliver to the same Maildirs."""
    imap_port = house.ports["imap"]
    with session(imap_port, "anna", cram=True) as imap:
        assert imap.select("INBOX")[0] == "OK"
    pop3_login(house.ports["pop3"], "anna", PASSWORD)
    pop3_login(house.ports["pop3"], "bert", PASSWORD)
    for name, password in (("carla", PASSWORD), ("anna", "wrong"), ("bert", "{SSHA256}")):
        with pytest.raises(poplib.error_proto):
            pop3_login(house.ports["pop3"], name, password)

    known = folders(imap_port, "anna")["INBOX"][1]
    deliver(old.smtp_port, "team", "postfix delivers still")
    until(lambda: count(imap_port, "anna") == MESSAGES)
    deliver(house.ports["smtp"], "team", "posthouse delivers, too")
    assert count(imap_port, "anna") == MESSAGES + 1
    rows = folders(imap_port, "anna")["INBOX"][1]
    assert known < rows
    assert {row[1] for row in rows - known} == {
        b"postfix.delivers.still@example.org",
        b"posthouse.delivers,.too@example.org",
    }
    assert min(row[0] for row in rows - known) > max(row[0] for row in known)
    until(lambda: count(imap_port, "bert") == MESSAGES + 2)

    before = count(imap_port, "dora")
    deliver(house.ports["smtp"], "somebody.else", "the catch-all again")
    assert count(imap_port, "dora") == before + 1
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        deliver(house.ports["smtp"], "gone", "nobody here")
    assert refused.value.recipients[f"gone@{DOMAIN}"][0] == 550
    owners = {os.stat(os.path.join(place, file)).st_uid for place, _, files in os.walk(old.root) for file in files}
    assert owners == {OWNER.pw_uid}


def test_the_way_back_is_open(old):
    """After a while with Posthouse the old programs go on where it left off: UIDs, flags and new mail."""
    work_with_it(old)
    folder = new_folder("nobody")
    configuration = f'user = "nobody"\n[database]\nurl = "{old.database.url}"\n[mail]\nroot = "{old.root}"\n'
    house = House(folder, configuration)
    try:
        house.cli("db", "adopt")
        old.stop_dovecot()
        house.start()
        deliver(house.ports["smtp"], "anna", "taken by posthouse")
        with session(house.ports["imap"], "anna") as imap:
            imap.select("INBOX")
            imap.store("1", "+FLAGS", r"(\Answered)")
        left = {name: folders(house.ports["imap"], name) for name in ("anna", "bert", "dora")}
    finally:
        assert house.stop() == 0
        shutil.rmtree(folder)
    old.start_dovecot()
    assert {name: folders(old.imap_port, name) for name in left} == left
