"""The plain files beside the messages: names, uidlist, locks, quota, folders."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import TryLater
from posthouse.journal.content import Content
from posthouse.store import delivery, filename, layout, quota, uidlist
from posthouse.store.crlf import to_crlf
from posthouse.store.dotlock import Dotlock
from posthouse.store.errors import BadMailboxName, MailboxExists, NoSuchMailbox


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", ".a", "a.", "../x", "a/b", "a\0b", "a\nb", "\ud800", "x" * 300, "ä" * 100]
)
def test_hostile_mailbox_names_are_refused(name):
    with pytest.raises(BadMailboxName):
        layout.canonical_name(name)


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_a_mailbox_name_is_one_directory_or_none(name):
    try:
        canonical = layout.canonical_name(name)
    except BadMailboxName:
        return
    folder = layout.folder_of(canonical)
    assert "/" not in folder
    assert folder not in (".", "..")
    assert canonical == "INBOX" or layout.name_of(folder) == canonical


@pytest.mark.parametrize("maildir", ["/etc/", "../x/", "a/../../x/", "a//b/", "a/./b/", "a\0b/", "/", "mbox", ""])
def test_a_maildir_that_leaves_the_mail_root_is_refused(tmp_path, maildir):
    with pytest.raises(TryLater):
        layout.account_path(str(tmp_path), maildir)


def test_a_maildir_behind_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "d").symlink_to(tmp_path)
    with pytest.raises(TryLater):
        layout.account_path(str(tmp_path / "root"), "d/u/")


def test_flags_go_into_names_in_order_and_come_back():
    mask = filename.SEEN | filename.ANSWERED | 1 << filename.KEYWORD_SHIFT
    assert filename.info_with(":2,Zb", mask) == ":2,RSZa"
    assert filename.mask_of(":2,RSZa") == mask
    assert filename.mask_of(":1,S") == 0


def test_a_uidlist_that_was_torn_or_left_with_holes_is_read(tmp_path):
    path = str(tmp_path / "dovecot-uidlist")
    (tmp_path / "dovecot-uidlist").write_bytes(
        b"3 V77 N5 Gabc\n3 :a\n\x00\x00\x007 W12 :b:2,S\nrubbish\n9 :a\n8 :c\n99999999999 :d\n12 :tor"
    )
    listed = uidlist.read(path)
    assert (listed.uidvalidity, listed.uidnext, listed.guid) == (77, 10, "abc")
    assert listed.uids == {"a": 9, "b": 7, "c": 8}
    uidlist.cut_torn_line(path, listed.torn_octets)
    uidlist.append(path, [(listed.uidnext, "e", "")])
    assert uidlist.read(path).uids["e"] == 10


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_octets_make_a_uidlist_or_none(tmp_path_factory, octets):
    path = tmp_path_factory.mktemp("list") / "dovecot-uidlist"
    path.write_bytes(b"3 V1 N1\n" + octets)
    listed = uidlist.read(str(path))
    assert len(set(listed.uids.values())) == len(listed.uids)
    assert listed.uidnext > max(listed.uids.values(), default=0)


def test_a_lock_excludes_and_is_given_back(tmp_path):
    path = str(tmp_path / "file")
    with Dotlock(path), pytest.raises(TryLater), Dotlock(path, timeout_seconds=0.01):
        pass
    with Dotlock(path, timeout_seconds=0):
        assert os.path.exists(f"{path}.lock")
    assert not os.path.exists(f"{path}.lock")


def test_the_lock_of_a_dead_process_of_ours_is_broken_at_once(tmp_path):
    (tmp_path / "file.lock").write_bytes(b"posthouse 1")
    with Dotlock(str(tmp_path / "file"), timeout_seconds=0):
        pass


def test_a_foreign_lock_is_broken_only_when_it_is_old(tmp_path):
    lock = tmp_path / "file.lock"
    lock.write_bytes(b"4711:other.host")
    with pytest.raises(TryLater), Dotlock(str(tmp_path / "file"), timeout_seconds=0.01):
        pass
    os.utime(lock, (time.time() - 3600,) * 2)
    with Dotlock(str(tmp_path / "file"), timeout_seconds=0):
        pass


def test_a_maildir_may_be_made_by_several_at_once(tmp_path):
    """The first messages for a new account arrive in several processes."""
    for turn in range(50):
        start = threading.Barrier(4)

        def make(path: str, start: threading.Barrier = start) -> None:
            start.wait()
            layout.make_folder(layout.Folder(path, ""))

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(make, f"{tmp_path}/{turn}/a/b/c") for _ in range(4)]:
                done.result()


@pytest.mark.parametrize("rest", [b"", b"posth", b"\0" * 14, b"pos\0\0"])
def test_a_lock_without_an_owner_is_broken_after_a_moment(tmp_path, rest):
    """A process died between making it and writing into it, or the power failed."""
    lock = tmp_path / "file.lock"
    lock.write_bytes(rest)
    with pytest.raises(TryLater), Dotlock(str(tmp_path / "file"), timeout_seconds=0.01):
        pass
    os.utime(lock, (time.time() - 5,) * 2)
    with Dotlock(str(tmp_path / "file"), timeout_seconds=0):
        pass


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10485760S,1000C", (10485760, 1000)),
        ("1000C", (0, 1000)),
        ("1000C,5S", (5, 1000)),
        ("5000", (5000, 0)),
        ("5000S", (5000, 0)),
        ("", None),
        ("0", None),
        ("lots", None),
    ],
)
def test_quota_texts(text, limit):
    parsed = quota.parse(text)
    assert (parsed and (parsed.size_bytes, parsed.messages)) == limit


def test_quota_is_counted_once_and_then_kept(post):
    async def room(text="1000S,3C"):
        return await post.store.quota_room("example.org/bob/", text)

    assert post.run(room("")) is None
    assert post.run(room()) == 1000
    stored = os.stat(post.deliver()).st_size
    assert post.run(room()) == 1000 - stored
    with open(f"{post.path}/maildirsize") as file:
        assert file.read() == f"1000S,3C\n0 0\n{stored} 1\n"
    view = post.select()
    post.run(view.copy([1], "INBOX"))
    assert post.run(room()) == 1000 - 2 * stored
    post.deliver()
    assert post.run(room()) == 0, "three messages are all there may be"
    post.run(view.store_flags([1], frozenset({"\\Deleted"}), "add"))
    post.run(view.expunge())
    assert post.run(room()) == 1000 - 2 * stored
    assert post.run(room("2000S")) == 2000 - 2 * stored, "another limit: counted anew"


def test_folders_are_made_renamed_and_removed(post):
    account = post.account
    for name in ("Work.2026", "Entwürfe"):
        post.run(account.create(name))
    assert os.path.isfile(f"{post.path}/.Entw&APw-rfe/maildirfolder")
    with pytest.raises(MailboxExists):
        post.run(account.create("inbox"))
    post.append("Work.2026")
    before = post.select("Work.2026")
    listed = {box.name: box for box in post.run(account.mailboxes())}
    assert list(listed) == ["INBOX", "Entwürfe", "Work", "Work.2026"]
    assert (listed["Work"].selectable, listed["Work"].has_children) == (False, True)
    with pytest.raises(BadMailboxName):
        post.run(account.delete("Work"))
    post.run(account.rename("Work", "Job"))
    after = post.select("Job.2026")
    assert (after.uidvalidity, list(after.uids)) == (before.uidvalidity, [1])
    with pytest.raises(NoSuchMailbox):
        post.select("Work.2026")
    post.run(account.delete("Job.2026"))
    assert [box.name for box in post.run(account.mailboxes())] == ["INBOX", "Entwürfe"]
    for name in ("INBOX", "nothing"):
        with pytest.raises((BadMailboxName, NoSuchMailbox)):
            post.run(account.delete(name))


def test_renaming_inbox_moves_its_messages(post):
    """RFC 3501 §6.3.5."""
    post.deliver()
    post.run(post.account.rename("INBOX", "Old"))
    assert list(post.select("Old").uids) == [1]
    assert list(post.select().uids) == []


def test_special_uses_are_kept_and_guessed(post):
    """RFC 6154."""
    post.run(post.account.create("Sent"))
    post.run(post.account.create("Outbound", "\\Sent"))
    post.run(post.account.create("Trash"))
    uses = {box.name: box.special_use for box in post.run(post.account.mailboxes())}
    assert uses == {"INBOX": "", "Outbound": "\\Sent", "Sent": "", "Trash": "\\Trash"}
    post.run(post.account.rename("Outbound", "Out"))
    uses = {box.name: box.special_use for box in post.run(post.account.mailboxes())}
    assert uses["Out"] == "\\Sent"


def test_subscriptions_outlive_mailboxes_and_dovecots_are_read(post):
    """RFC 3501 §6.3.6."""
    post.run(post.account.subscribe("Lists.ä"))
    with open(f"{post.path}/subscriptions", "rb") as file:
        assert file.read() == b"Lists.&AOQ-\n"
    with open(f"{post.path}/subscriptions", "wb") as file:
        file.write(b"V\t2\n\nINBOX\nLists\tone\n")
    boxes = {box.name: box for box in post.run(post.account.mailboxes())}
    assert boxes["INBOX"].subscribed
    assert boxes["Lists.one"].subscribed
    assert not boxes["Lists.one"].selectable
    post.run(post.account.unsubscribe("Lists.one"))
    assert "Lists.one" not in {box.name for box in post.run(post.account.mailboxes())}


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"]), max_size=12).map(b"".join), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_what_is_stored_with_lf_is_read_as_it_came(tmp_path_factory, data, piece):
    content = Content(str(tmp_path_factory.mktemp("content")), memory_limit=2)
    for at in range(0, len(data), piece):
        content.write(data[at : at + piece])
    content.finish()
    if delivery.is_lossless(content):
        assert to_crlf(b"".join(content.chunks(lf=True))) == data
    assert delivery.is_lossless(content) == delivery.is_lossless(Content.of(data))
    content.close()
