"""An account that is an mbox file: deliveries, IMAP, POP3, mutt and Python's mailbox on one file."""

import mailbox
import os
import poplib
import pwd
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from imapclient import IMAPClient
from tests.databases import new_folder
from tests.interop.house import PASSWORD, mail, run, trusting, until, without_trace

HOST = "127.0.0.1"
NAMES = ("first", "second", "third")
BODIES = [mail(name, f"From here, {name}\r\n") for name in NAMES]


DOVECOT = """
base_dir = {folder}/run
log_path = {folder}/log
mail_location = mbox:{folder}/folders:INBOX={folder}/inbox
mbox_write_locks = dotlock fcntl
mbox_lazy_writes = no
protocols = imap pop3
ssl = no
"""


def make_account(house, account) -> str:
    address = account("bob")
    with closing(sqlite3.connect(house.data / "posthouse.db", timeout=30)) as database, database:
        path = f"example.test/{address.partition('@')[0]}"
        database.execute("UPDATE users SET maildir = ? WHERE email = ?", (path, address))
    return address


@pytest.fixture
def bob(house, account):
    address = make_account(house, account)
    path = f"example.test/{address.partition('@')[0]}"
    for count, message in enumerate(BODIES, 1):
        house.deliver(address, message)  # by way of the queue
        until(lambda count=count: len(subjects(house.data / "mail" / path)) == count)
    return address


@pytest.fixture
def path(house, bob):
    return house.data / "mail" / "example.test" / bob.partition("@")[0]


def subjects(path) -> list[str]:
    if not path.exists():
        return []
    with closing(mailbox.mbox(path)) as box:
        return [message["Subject"] for message in box]


def is_locked(box: mailbox.mbox) -> bool:
    try:
        box.lock()
    except mailbox.ExternalClashError:
        return False
    return True


def test_what_a_sender_says_of_flags_and_uids_means_nothing(house, bob, path):
    said = b"Status: RO\r\nX-Status: D\r\nX-Keywords: a)b\r\nX-UID: 77\r\nX-IMAP: 5 5\r\n"
    house.deliver(bob, said + mail("fourth"))
    until(lambda: "fourth" in subjects(path))
    assert house.flags(bob)[-1] == set()
    assert b"X-Status" not in path.read_bytes()


def test_imap_and_pop3_show_the_file_and_change_it(house, bob, path):
    assert [without_trace(message) for message in house.messages(bob)] == BODIES
    session = poplib.POP3(HOST, house.ports["pop3"], timeout=30)
    session.user(bob)
    session.pass_(PASSWORD)
    known = session.uidl()[1]
    assert without_trace(b"".join(line + b"\r\n" for line in session.retr(2)[1])) == BODIES[1]
    session.dele(2)
    session.quit()
    assert subjects(path) == ["first", "third"]
    with house.imap(bob) as imap:
        assert imap.fetch("1:*", "(UID)")[1] == [b"1 (UID 1)", b"2 (UID 3)"]
        imap.store("1", "+FLAGS", r"(\Flagged Work)")
        imap.append("INBOX", r"(\Seen)", None, BODIES[1])
    assert subjects(path) == ["first", "third", "second"]
    assert b"\nX-Keywords: Work\n" in path.read_bytes()
    session = poplib.POP3(HOST, house.ports["pop3"], timeout=30)
    session.user(bob)
    session.pass_(PASSWORD)
    assert [line.split()[1] for line in session.uidl()[1]][:2] == [known[0].split()[1], known[2].split()[1]]
    session.quit()
    assert house.cli("mailbox", "check", bob).stdout == "1 accounts, 0 problems\n"


def test_a_file_that_dovecot_kept_is_taken_over_with_its_uids_keywords_and_pop3_ids(need, house, account):
    if os.geteuid() != 0:
        pytest.skip("only root can run Dovecot as somebody else")
    need("dovecot")
    folder = new_folder("nobody")
    (folder / "folders").mkdir()
    (folder / "conf").write_text(DOVECOT.format(folder=folder))
    box = mailbox.mbox(folder / "inbox")
    for number in range(5):
        box.add(mail(f"letter {number}").replace(b"\r\n", b"\n"))
    box.close()
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody")

    def dovecot(protocol: str, *commands: str) -> str:
        line = [f"/usr/lib/dovecot/{protocol}", "-c", folder / "conf"]
        nobody = pwd.getpwnam("nobody")
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        environment = {"USER": "bob", "HOME": str(folder)}
        said = "".join(f"{command}\r\n" for command in commands).encode()
        pipes = {"input": said, "capture_output": True}
        done = subprocess.run(line, env=environment, timeout=30, check=False, **pipes, **identity)
        return (done.stdout + done.stderr).decode()

    dovecot("imap", "a SELECT INBOX", r"b STORE 1,3 +FLAGS (\Deleted)", "c EXPUNGE", "d LOGOUT")
    dovecot("imap", "a SELECT INBOX", r"b STORE 2 +FLAGS (Work \Seen \Flagged)", "d LOGOUT")
    told = dovecot("imap", "a SELECT INBOX", "b FETCH 1:* (UID FLAGS)", "d LOGOUT")
    known = re.findall(r"^\d+ [0-9a-f]{16}", dovecot("pop3", "UIDL", "QUIT"), re.MULTILINE)
    before = re.findall(r"UIDVALIDITY \d+", told), re.findall(r"FETCH \(UID (\d+)", told)
    assert (len(before[0]), before[1], len(known)) == (1, ["2", "4", "5"], 3), told
    address = make_account(house, account)
    place = house.data / "mail" / "example.test" / address.partition("@")[0]
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "inbox", place)
    shutil.rmtree(folder)

    with house.imap(address) as imap:
        validity = imap.response("UIDVALIDITY")[1][0].decode()
        uids = [re.search(rb"UID (\d+)", line)[1].decode() for line in imap.fetch("1:*", "(UID)")[1]]
    assert ([f"UIDVALIDITY {validity}"], uids) == before
    assert house.flags(address) == [set(), {"\\Seen", "\\Flagged", "Work"}, set()]
    with closing(poplib.POP3(HOST, house.ports["pop3"], timeout=30)) as session:
        session.user(address)
        session.pass_(PASSWORD)
        assert [line.decode() for line in session.uidl()[1]] == known
        session.quit()


def test_who_idles_hears_of_what_mutt_does_with_the_file(need, house, bob, path, tmp_path):
    program, script = need("mutt"), need("script")
    (tmp_path / "muttrc").write_text(f"set folder={tmp_path} quit=yes delete=yes move=no mark_old=no\n")
    with IMAPClient(HOST, house.ports["imaps"], ssl_context=trusting(), timeout=30) as client:
        client.login(bob, PASSWORD)
        client.select_folder("INBOX")
        client.idle()
        keys = "<first-entry><flag-message><delete-message><sync-mailbox><quit>"
        line = f"{program} -n -F {tmp_path}/muttrc -f {path} -e 'push \"{keys}\"'"
        run(script, "-qec", line, "/dev/null", home=tmp_path)
        seen: list = []
        until(lambda: seen.extend(client.idle_check(timeout=1)) or (2, b"EXPUNGE") in seen)
        client.idle_done()
        assert {uid: b"\\Flagged" in flags for uid, flags in client.get_flags([1, 3]).items()} == {1: True, 3: False}
        assert b"X-Status: F" in path.read_bytes()


def test_python_and_a_delivery_put_messages_into_the_file(house, bob, path):
    with closing(mailbox.mbox(path)) as box:
        until(lambda: is_locked(box))  # the delivery before may not quite have ended
        box.add(BODIES[0].replace(b"first", b"fourth").replace(b"\r\n", b"\n"))
        box.flush()
        box.unlock()
    house.deliver(bob, BODIES[1].replace(b"second", b"fifth"))
    until(lambda: "fifth" in subjects(path))
    with house.imap(bob) as imap:
        answer = imap.fetch("1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        shown = [(head.split()[2], field.split()[1]) for head, field in (part for part in answer if len(part) == 2)]
    assert shown == [(b"1", b"first"), (b"2", b"second"), (b"3", b"third"), (b"4", b"fourth"), (b"5", b"fifth")]
