"""store/mirror.py: accounts that are mbox files, with other programs that change the file."""

import fcntl
import mailbox
import os
import random
import shutil

import pytest

from posthouse.base.errors import TryLater
from posthouse.journal.content import Content
from posthouse.store import mbox, mboxformat, mirror
from posthouse.store.model import NewMessage, Want

FROM = b"From a@b  Sun Nov 22 01:02:03 2026\n"


class Box:
    """The account example.org/mail, an mbox file, and another program that reads and writes it."""

    def __init__(self, post):
        self.post = post
        self.path = f"{post.root}/example.org/mail"
        self.account = post.store.account("example.org/mail")
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def deliver(self, *subjects, body=b"text\n", status=b""):
        for subject in subjects:
            mbox.append(self.path, [FROM, b"Subject: %s\n%s\n%s" % (subject.encode(), status, body)])

    def select(self):
        return self.post.run(self.account.select("INBOX"))

    def append(self, data, *flags):
        return self.account.append("INBOX", [NewMessage(Content.of(data), frozenset(flags), None)])

    def shown(self, view=None):
        """UID, subject and flags of each message, as a client sees them."""
        view = view or self.select()

        def render(message):
            subject = message.header().decode().partition("Subject: ")[2].partition("\r\n")[0]
            return (
                message.uid,
                subject,
                "".join(sorted(f[1] if f[0] == "\\" else f for f in message.flags - {"\\Recent"})),
            )

        return self.post.fetch(view, Want.FLAGS | Want.BODY, render)

    def in_file(self):
        """Subject and flags of each message, as Python's mailbox reads the file."""
        box = mailbox.mbox(self.path)
        found = [(message["Subject"], "".join(sorted(set(message.get_flags()) - {"O"}))) for message in box]
        box.close()
        return found

    def edit(self, change):
        """What ``change`` makes of all segments replaces the file, as a mail program does."""
        with mbox.locked(self.path) as file:
            segments = [raw for _, raw in mboxformat.segments(file, 1_000_000)]
            os.truncate(self.path, 0)
            mbox.extend(file, change(segments))


@pytest.fixture
def box(post):
    return Box(post)


def test_a_file_is_shown_with_its_flags_and_keeps_its_uids(box):
    box.deliver("one")
    box.deliver("two", status=b"Status: RO\nX-Status: AF\nX-Keywords: Work\n")
    wanted = [(1, "one", ""), (2, "two", "AFSWork")]
    assert box.shown() == wanted
    box.deliver("three")
    assert box.shown() == [*wanted, (3, "three", "")]
    status = box.post.run(box.account.status("INBOX"))
    assert (status.messages, status.uidnext, status.unseen) == (3, 4, 2)
    restarted = box.post.restarted()
    box.account = restarted.account("example.org/mail")
    assert box.shown() == [*wanted, (3, "three", "")]
    restarted.close()


def test_what_a_session_changes_is_in_the_file_when_it_is_told(box):
    box.deliver("one", "two", "three")
    before = os.stat(box.path)
    view = box.select()
    box.post.run(view.store_flags([1, 3], frozenset({"\\Flagged"}), "add"))
    box.post.run(view.store_flags([2], frozenset({"\\Seen", "\\Deleted"}), "add"))
    assert box.in_file() == [("one", "F"), ("two", "DR"), ("three", "F")]
    box.post.run(view.expunge())
    assert box.in_file() == [("one", "F"), ("three", "F")]
    box.post.run(box.append(b"Subject: four\r\n\r\nFrom me\r\n", "Work"))
    assert box.in_file() == [("one", "F"), ("three", "F"), ("four", "")]
    assert box.shown() == [(1, "one", "F"), (3, "three", "F"), (4, "four", "Work")]
    after = os.stat(box.path)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert sorted(os.listdir(os.path.dirname(box.path))) == ["mail", "mail:posthouse"], "no lock is left"


def test_other_mailboxes_lie_beside_and_messages_move_there_and_back(box):
    box.deliver("one", "two")
    box.post.run(box.account.create("Old"))
    box.post.run(box.select().move([1], "Old"))
    assert box.in_file() == [("two", "")]
    old = box.post.run(box.account.select("Old"))
    assert [subject for _, subject, _ in box.shown(old)] == ["one"]
    box.post.run(old.move([1], "INBOX"))
    assert box.in_file() == [("two", ""), ("one", "")]
    assert box.shown() == [(2, "two", ""), (3, "one", "")]


def test_other_programs_expunge_and_flag_and_no_other_uid_changes(box):
    box.deliver("one", "two", "three")
    view = box.select()
    assert len(view.uids) == 3
    box.edit(lambda raws: [raws[0], mboxformat.ended(mboxformat.flagged(raws[2], frozenset({"\\Answered"})))])
    changes = box.post.run(view.refresh(expunge=True))
    assert (changes.expunged, changes.vanished) == ((2,), (2,))
    assert box.shown() == [(1, "one", ""), (3, "three", "A")]
    box.edit(lambda raws: list(reversed(raws)))
    assert sorted(box.shown()) == [(1, "one", ""), (3, "three", "A")]
    os.unlink(box.path)
    assert box.shown() == []
    box.deliver("four")
    assert box.shown() == [(4, "four", "")]


def test_fields_that_mail_programs_add_make_no_other_message(box):
    """mutt writes Content-Length and Lines into each message that stands behind one that it has changed."""
    box.deliver("one", "two", "three")
    wanted = box.shown()
    box.edit(
        lambda raws: [mboxformat.ended(raw.replace(b"\n\n", b"\nContent-Length: 5\nLines: 1\n\n", 1)) for raw in raws]
    )
    assert box.shown() == wanted
    view = box.select()
    box.post.run(view.store_flags([2], frozenset({"\\Deleted"}), "add"))
    box.post.run(view.expunge())
    assert box.in_file() == [("one", ""), ("three", "")]
    with open(box.path, "rb") as file:
        assert file.read().count(b"\nLines: 1\n") == 2


def test_uids_that_dovecot_or_c_client_gave_are_taken_over(box):
    notes = [b"X-IMAPbase: 1234567890 0000000009 Work\nX-UID: 3   \n", b"X-UID: 7\n", b"X-UID: 5\n", b""]
    for number, note in enumerate(notes):
        box.deliver(str(number), status=note)
    assert box.shown() == [(3, "0", ""), (7, "1", ""), (10, "2", ""), (11, "3", "")]
    assert box.select().uidvalidity == 1234567890
    box.deliver("later", status=b"X-UID: 8\n")
    assert box.shown()[-1] == (12, "later", "")


@pytest.mark.parametrize("note", [b"X-IMAPbase: 0 3\n", b"X-IMAPbase: 9999999999 3\n", b"X-IMAPbase: x\n", b""])
def test_uids_without_a_uidvalidity_mean_nothing(box, note):
    box.deliver("one", status=note + b"X-UID: 5\n")
    assert box.shown() == [(1, "one", "")]


def test_only_what_is_first_in_a_file_can_be_c_clients_own_note_and_keywords_are_atoms(box):
    note = (
        b"From: x\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1234567890 0000000004\n\nx\n"
    )
    mbox.append(box.path, [FROM, note])
    box.deliver("one", status=b'X-UID: 4\nX-Keywords: Work a)b {5} "q %s * \\\\x \xe4\n')
    mbox.append(box.path, [FROM, note])
    assert box.shown() == [(4, "one", "Work"), (5, "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA", "")]
    view = box.select()
    box.post.run(view.store_flags([4], frozenset({"\\Deleted"}), "add"))
    box.post.run(view.expunge())
    with open(box.path, "rb") as file:
        assert file.read().count(b"\nX-IMAP: 1234567890") == 2, "it stays in the file"


def test_messages_that_are_the_same_are_told_apart(box):
    box.deliver("same", "same", "same")
    view = box.select()
    box.post.run(view.store_flags([2], frozenset({"\\Deleted"}), "add"))
    box.post.run(view.expunge())
    assert box.shown() == [(1, "same", ""), (3, "same", "")]
    box.post.run(view.copy([1], "INBOX"))
    assert [uid for uid, _, _ in box.shown()] == [1, 3, 4]
    assert len(box.in_file()) == 3


@pytest.mark.parametrize("lost", [["mail:posthouse/posthouse-mbox"], ["mail:posthouse/posthouse-mbox", "mail"]])
def test_what_broke_off_before_state_or_file_were_written_is_taken_up_and_nothing_is_there_twice(box, lost):
    box.deliver("one", "two", "three")
    view = box.select()
    changes = [
        lambda: view.store_flags([1, 2], frozenset({"\\Deleted"}), "add"),
        lambda: view.expunge([1]),
        lambda: box.append(b"Subject: four\r\n\r\n", "\\Seen"),
        lambda: view.move([3], "INBOX"),
    ]
    wanted = [
        [(1, "one", "D"), (2, "two", "D"), (3, "three", "")],
        [(2, "two", "D"), (3, "three", "")],
        [(2, "two", "D"), (3, "three", ""), (4, "four", "S")],
        [(2, "two", "D"), (4, "four", "S"), (5, "three", "")],
    ]
    for change, seen in zip(changes, wanted, strict=True):
        box.shown()
        paths = [f"{os.path.dirname(box.path)}/{name}" for name in lost]
        for path in paths:
            shutil.copy2(path, f"{path}.before")
        box.post.run(change())
        for path in paths:
            os.rename(f"{path}.before", path)
        assert box.shown() == seen
        assert sorted(box.in_file()) == sorted(
            (subject, "".join("R" if f == "S" else f for f in flags)) for _, subject, flags in seen
        )


@pytest.mark.parametrize("tenth", range(11))
def test_a_file_that_was_being_rewritten_when_the_power_went_loses_nothing(box, tenth):
    """Its beginning is new and its end is old: there is no state then, and each message is on one side at least."""
    names = [f"message {number}" for number in range(20)]
    box.deliver(*names, body=b"text\n" * 40)
    view = box.select()
    with open(box.path, "rb") as file:
        old = file.read()
    box.post.run(view.store_flags([2, 5, 17], frozenset({"\\Deleted"}), "add"))
    box.post.run(view.expunge())
    with open(box.path, "r+b") as file:
        at = len(file.read()) * tenth // 10
        file.truncate(at)
        file.seek(at)
        file.write(old[at:])
    os.unlink(f"{box.path}:posthouse/posthouse-mbox")
    box.deliver("another")
    shown = {subject: uid for uid, subject, _ in reversed(box.shown())}
    for number, name in enumerate(names, 1):
        if number not in (2, 5, 17):
            assert shown[name] == number
    assert "another" in shown
    assert sorted({subject for subject, _ in box.in_file()}) == sorted(shown)
    again = box.shown()
    assert {subject: uid for uid, subject, _ in reversed(again)} == shown


def test_what_is_no_mbox_file_or_locked_is_left_alone(box, monkeypatch):
    monkeypatch.setattr(mirror, "LOCK_SECONDS", 0.1)
    with open(box.path, "w") as file:
        file.write("something else\n")
    with pytest.raises(TryLater, match="no mbox"):
        box.select()
    with open(box.path) as file:
        assert file.read() == "something else\n"
    os.unlink(box.path)
    os.symlink("/etc/passwd", box.path)
    with pytest.raises(TryLater):
        box.select()
    os.unlink(box.path)
    box.deliver("one")
    with open(f"{box.path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("12345")
        lock.flush()
        with pytest.raises(TryLater, match="held"):
            box.select()


def test_any_changes_on_both_sides_come_together(box):
    """Each side does things at random; both are the same afterwards, no message is lost, and no UID means another."""
    chance = random.Random(7)
    subjects = {}
    expected = set()
    count = 0
    for _ in range(60):
        what = chance.randrange(6)
        if what in (0, 1):
            count += 1
            box.deliver(str(count))
            expected.add(str(count))
        elif what == 2 and expected:
            drop = chance.randrange(len(expected))
            gone = box.in_file()[drop][0]
            box.edit(lambda raws, drop=drop: [raw for at, raw in enumerate(raws) if at != drop])
            expected.discard(gone)
        elif expected:
            view = box.select()
            uid = chance.choice([uid for uid in view.uids if uid in subjects] or [0])
            flag = chance.choice(["\\Seen", "\\Flagged", "Work"])
            box.post.run(view.store_flags([uid], frozenset({flag}), chance.choice(["add", "remove"])))
            if what == 5 and uid:
                box.post.run(view.store_flags([uid], frozenset({"\\Deleted"}), "add"))
                box.post.run(view.expunge([uid]))
                expected.discard(subjects[uid])
        shown = box.shown()
        for uid, subject, _ in shown:
            assert subjects.setdefault(uid, subject) == subject
        assert {subject for _, subject, _ in shown} == expected
        assert sorted(subject for subject, _ in box.in_file()) == sorted(expected)
