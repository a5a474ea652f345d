"""What sessions see of a mailbox, what they change, and what survives the loss of any file of ours."""

import os
import resource
import time
from datetime import UTC, datetime

import pytest
from tests.unit.store.conftest import MAIL

from posthouse.base.errors import TryLater
from posthouse.journal.journal import Content
from posthouse.store.errors import InUse, NoSuchMailbox, OverQuota, ReadOnly
from posthouse.store.layout import Folder
from posthouse.store.model import NO_CHANGES, NewMessage, Want
from posthouse.store.recovery import find_message


def lf(data):
    return data.replace(b"\r\n", b"\n")


def test_a_delivery_is_stored_with_lf_and_read_with_crlf(post):
    path = post.deliver(prefix=b"Return-Path: <ann@example.org>\r\n")
    whole = b"Return-Path: <ann@example.org>\r\n" + MAIL
    with open(path, "rb") as file:
        assert file.read() == lf(whole)
    assert f",S={len(lf(whole))},W={len(whole)}" in path
    view = post.select()
    assert post.fetch(view, Want.BODY, lambda m: (m.size, m.body(), m.body(7, 11))) == [
        (len(whole), whole, whole[7:11])
    ]


@pytest.mark.parametrize("data", [b"a\nb\r\n\r\n", b"a\r\r\nb\r\n", b"no line end", b"", b"a\rb\r\n", b"\r\n\n"])
def test_what_lf_would_change_is_stored_octet_for_octet(post, data):
    post.append(data=data)
    assert post.fetch(post.select(), Want.BODY, lambda m: (m.body(), m.size)) == [(data, len(data))]


@pytest.mark.parametrize("data", [MAIL, lf(MAIL), b"a: b\r\n\nmixed\nlines\r\n"])
def test_files_of_other_programs_are_read_with_crlf_and_sized_exactly(post, data):
    post.select()
    post.foreign.deliver(data)
    shown = lf(data).replace(b"\n", b"\r\n")
    view = post.select()
    assert post.fetch(view, Want.SIZE, lambda m: m.size) == [len(shown)]
    assert post.fetch(view, Want.BODY, lambda m: m.body()) == [shown]
    assert post.fetch(view, Want.HEADER, lambda m: m.header()) == [shown[: shown.index(b"\r\n\r\n") + 4]]


def test_a_large_message_is_read_in_slices(post):
    line = b"a line of thirty-two characters\n"
    post.select()
    post.foreign.deliver(b"Subject: large\n\n" + line * 200_000)
    whole = b"Subject: large\r\n\r\n" + line.replace(b"\n", b"\r\n") * 200_000
    view = post.select()
    slices = post.fetch(view, Want.BODY, lambda m: (m.size, m.body(5_000_000, 5_000_100), m.body(len(whole) - 5)))
    assert slices == [(len(whole), whole[5_000_000:5_000_100], whole[-5:])]
    assert post.fetch(view, Want.BODY, lambda m: m.body() == whole) == [True]
    assert post.fetch(view, Want.STRUCTURE, lambda m: m.part().lines) == [200_000]
    view.close()


def test_an_appended_message_has_its_date_flags_and_uid(post):
    date = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    appended = post.append(flags={"\\Seen", "$Important"}, date=date)
    view = post.select()
    (found,) = post.fetch(view, Want.DATE, lambda m: (m.uid, m.internal_date, m.flags))
    assert found == (appended.uids[0], date, {"\\Seen", "$Important", "\\Recent"})
    assert appended.uidvalidity == view.uidvalidity


@pytest.mark.parametrize(("year", "kept"), [(1, 1970), (9999, 2106)])
def test_a_date_that_no_file_can_have_is_brought_near(post, year, kept):
    post.append(date=datetime(year, 6, 1, tzinfo=UTC))
    assert post.fetch(post.select(), Want.DATE, lambda m: m.internal_date.year) == [kept]


def test_the_first_session_that_may_write_has_what_is_recent(post):
    """RFC 3501 §2.3.2."""
    post.deliver()
    assert post.run(post.account.status("INBOX")).recent == 1
    assert post.select(read_only=True).recent == 1
    assert len(os.listdir(f"{post.path}/new")) == 1, "a read-only session moves nothing"
    first = post.select()
    assert first.recent == 1
    assert post.select().recent == 0
    assert post.run(post.account.status("INBOX")).recent == 0
    assert os.listdir(f"{post.path}/new") == []


def test_a_read_only_view_changes_nothing(post):
    post.deliver()
    view = post.select(read_only=True)
    for change in (
        view.store_flags([1], frozenset({"\\Seen"}), "add"),
        view.expunge(),
        view.move([1], "INBOX"),
    ):
        with pytest.raises(ReadOnly):
            post.run(change)


def test_nothing_new_is_the_same_as_no_changes(post):
    view = post.select()
    os.utime(f"{post.path}/new", (1, 1))
    os.utime(f"{post.path}/cur", (1, 1))
    post.run(view.refresh(expunge=True))
    assert post.run(view.refresh(expunge=True)) is NO_CHANGES


def test_two_processes_see_each_others_flags(post):
    post.deliver()
    other = post.restarted()
    theirs = post.run(other.account("example.org/bob/").select("INBOX"))
    ours = post.select()
    post.run(theirs.store_flags([1], frozenset({"\\Flagged"}), "replace"))
    assert post.run(ours.refresh(expunge=False)).flags == ((1, 1, frozenset({"\\Flagged"})),)
    other.close()


def test_a_message_renamed_before_it_is_opened_is_found(post):
    view = post.select()
    base = post.foreign.deliver()
    post.run(view.refresh(expunge=True))
    post.foreign.flag(base, "RS")
    assert post.fetch(view, Want.BODY, lambda m: m.body()) == [MAIL]
    post.foreign.delete(base)
    assert post.fetch(view, Want.BODY, lambda m: m.body()) == []


def test_a_symbolic_link_is_no_message(post, tmp_path):
    post.select()
    (tmp_path / "secret").write_text("of another user")
    os.symlink(tmp_path / "secret", f"{post.path}/cur/1.x:2,")
    os.mkfifo(f"{post.path}/cur/2.x:2,")
    assert list(post.select().uids) == []


def test_unknown_letters_in_a_name_stay(post):
    post.select()
    base = post.foreign.deliver(place="cur", info=":2,PS")
    post.run(post.select().store_flags([1], frozenset({"\\Flagged"}), "replace"))
    assert post.foreign.find(base).endswith(":2,FP")


def test_a_keyword_that_finds_no_letter_is_not_kept(post):
    post.deliver()
    view = post.select()
    many = frozenset(f"word{number:02}" for number in range(30))
    ((_, flags),) = post.run(view.store_flags([1], many, "replace"))
    assert len(flags - {"\\Recent"}) == 26
    assert len(view.keywords) == 26


def test_a_copy_takes_keywords_date_and_content_along(post):
    date = datetime(1999, 12, 31, 23, 59, tzinfo=UTC)
    post.append(flags={"work", "\\Seen"}, date=date)
    post.run(post.account.create("Archive"))
    post.append("Archive", flags={"other", "more"})
    copied = post.run(post.select().copy([1], "Archive"))
    assert (copied.source_uids, copied.target_uids) == ((1,), (2,))
    found = post.fetch(post.select("Archive"), Want.BODY, lambda m: (m.flags, m.internal_date, m.body()), uids=[2])
    assert found == [({"work", "\\Seen", "\\Recent"}, date, MAIL)]


def test_a_copy_that_fails_halfway_leaves_nothing(post):
    """The uidlist can't grow: as on a full disk."""
    for _ in range(3):
        post.append()
    post.run(post.account.create("Archive"))
    view = post.select()
    post.select("Archive")
    archive = f"{post.path}/.Archive"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(f"{archive}/dovecot-uidlist").st_size + 20, hard))
    try:
        with pytest.raises(TryLater):
            post.run(view.move(view.uids, "Archive"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(f"{archive}/cur") == []
    assert post.run(view.refresh(expunge=True)).expunged == ()
    copied = post.run(view.move(view.uids, "Archive"))
    assert len(copied.target_uids) == 3
    assert list(post.select("Archive").uids) == list(copied.target_uids)


def test_a_move_keeps_the_name_so_that_recovery_finds_the_message(post):
    path = post.deliver()
    post.run(post.account.create("Archive"))
    view = post.select()
    post.run(view.store_flags([1], frozenset({"\\Seen"}), "add"))
    post.run(view.move([1], "Archive"))
    assert not os.path.exists(path)
    assert find_message(path) == f"{post.path}/.Archive/cur/{os.path.basename(path)}:2,S"
    assert find_message(path.replace("Q", "X")) is None
    assert find_message(f"{post.root}/queue/1.x") is None


def test_quota_refuses_what_does_not_fit(post):
    post.append()
    limited = post.store.account("example.org/bob/", quota=f"{len(MAIL) + 20}S")
    with pytest.raises(OverQuota):
        post.run(limited.append("INBOX", [NewMessage(Content.of(MAIL), frozenset(), None)]))
    view = post.run(limited.select("INBOX"))
    with pytest.raises(OverQuota):
        post.run(view.copy([1], "INBOX"))
    assert len(os.listdir(f"{post.path}/cur")) == 1
    with pytest.raises(NoSuchMailbox):
        post.run(view.copy([1], "Nowhere"))


def test_uids_survive_index_and_uidlist_one_at_a_time(post):
    for _ in range(4):
        post.append()
    view = post.select()
    post.run(view.store_flags([2], frozenset({"\\Deleted"}), "add"))
    post.run(view.expunge())
    expected = (view.uidvalidity, 5, [1, 3, 4])
    for name in ("posthouse.index", "dovecot-uidlist", "posthouse.index"):
        os.unlink(f"{post.path}/{name}")
        again = post.select()
        assert (again.uidvalidity, again.uidnext, list(again.uids)) == expected


def test_a_mailbox_of_dovecots_keeps_its_uids(post):
    post.select()
    for name in ("posthouse.index", "dovecot-uidlist"):
        os.unlink(f"{post.path}/{name}")
    for base in ("1.b", "2.a"):
        post.foreign.deliver(place="cur", info=":2,S", base=base)
    with open(f"{post.path}/dovecot-uidlist", "w") as file:
        file.write("3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n25006 :2.a\n25017 W2481 :1.b:2,S\n")
    post.foreign.deliver(base="3.c")
    view = post.select()
    assert (view.uidvalidity, list(view.uids), view.uidnext) == (1275660208, [25006, 25017, 25022], 25023)
    assert view.recent == 1


def test_a_file_that_comes_back_is_a_new_message(post):
    view = post.select()
    base = post.foreign.deliver()
    post.run(view.refresh(expunge=True))
    post.foreign.delete(base)
    assert post.run(view.refresh(expunge=True)).expunged == (1,)
    post.foreign.deliver(base=base)
    post.run(view.refresh(expunge=True))
    assert list(view.uids) == [2]
    os.unlink(f"{post.path}/posthouse.index")
    assert list(post.select().uids) == [2]


def test_an_expunged_uid_is_not_taken_up_again_from_the_uidlist(post):
    """Another program adds to the uidlist, so that all of it is read."""
    view = post.select()
    base = post.foreign.deliver()
    post.run(view.refresh(expunge=True))
    post.foreign.delete(base)
    post.run(view.refresh(expunge=True))
    post.foreign.deliver(base=base)
    post.foreign.deliver(base="9.other")
    with open(f"{post.path}/dovecot-uidlist", "a") as file:
        file.write("7 :9.other\n")
    post.run(view.refresh(expunge=True))
    assert list(view.uids) == [7, 8]


def test_a_file_that_readdir_missed_once_is_not_expunged(post, monkeypatch):
    """POSIX lets readdir miss a file that is renamed meanwhile; no file system does so on demand."""
    for _ in range(2):
        post.append()
    view = post.select()
    listed, readings = Folder.names, []

    def names(folder, place):
        readings.append(place)
        return listed(folder, place)[readings.count(place) == 1 and place == "cur" :]

    monkeypatch.setattr(Folder, "names", names)
    os.utime(f"{post.path}/cur")
    assert post.run(view.refresh(expunge=True)).expunged == ()
    assert readings.count("cur") == 2


def test_a_change_within_the_same_tick_is_seen(post):
    post.select()
    view = post.select(read_only=True)
    tick = time.time_ns() + 3600 * 10**9  # however slow the machine, this tick is not over
    for seen in (1, 2):
        post.foreign.deliver()
        os.utime(f"{post.path}/new", ns=(tick, tick))
        post.run(view.refresh(expunge=True))
        assert len(view.uids) == seen


def test_two_messages_of_one_name_become_two(post):
    post.select()
    post.foreign.deliver(b"one\n", place="cur", info=":2,S", base="1.same")
    post.foreign.deliver(b"two\n", place="new", base="1.same")
    post.select()
    view = post.select()
    assert sorted(post.fetch(view, Want.BODY, lambda m: m.body())) == [b"one\r\n", b"two\r\n"]


def test_a_mailbox_that_is_deleted_under_a_view_says_so(post):
    post.run(post.account.create("Gone"))
    view = post.select("Gone")
    post.run(post.account.delete("Gone"))
    with pytest.raises(NoSuchMailbox):
        post.run(view.refresh(expunge=True))
    post.run(post.account.create("Gone"))
    assert post.select("Gone").uidvalidity > view.uidvalidity
    with pytest.raises(NoSuchMailbox):
        post.run(view.refresh(expunge=True))


def test_one_pop3_session_has_the_maildrop(post):
    """RFC 1939 §4, RFC 2449 §8.1.1."""
    lock = post.run(post.account.lock_maildrop())
    with pytest.raises(InUse) as refused:
        post.run(post.account.lock_maildrop())
    assert refused.value.reply.text.startswith("[IN-USE]")
    lock.close()
    post.run(post.account.lock_maildrop()).close()


def test_a_maildir_that_was_removed_is_made_again(post):
    post.deliver()
    os.rename(post.path, f"{post.root}/elsewhere")
    with pytest.raises(OSError):
        post.deliver()
    post.store.forget("example.org/bob/")
    assert os.path.exists(post.deliver())


def test_envelopes_and_structures_come_from_the_index_the_second_time(post):
    post.deliver()
    view = post.select()
    render = lambda m: (m.envelope, m.structure(True), m.structure(False), m.header())  # noqa: E731
    want = Want.ENVELOPE | Want.STRUCTURE | Want.HEADER
    first = post.fetch(view, want, render)
    os.unlink(f"{post.path}/cur/{os.listdir(f'{post.path}/cur')[0]}")
    assert post.fetch(view, want, render) == first
    assert b"a letter" in first[0][0]
