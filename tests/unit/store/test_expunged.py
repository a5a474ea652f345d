"""store/expunged.py and expiry: what is kept aside, for how long, and what comes back."""

import os
import time

import pytest

from posthouse.store import expunged, upkeep
from posthouse.store.model import Want

DELETED = frozenset({"\\Deleted"})


@pytest.fixture
def kept(post):
    """A mailbox of an account whose expunged messages are kept for a week."""
    post.account._files.undelete_days = 7
    return post


def listing(post):
    return [(message.mailbox, message.stored) for message in expunged.listing(post.path)]


def expunge(post, view, uids):
    post.run(view.store_flags(uids, DELETED, "add"))
    post.run(view.expunge(uids))


def test_what_is_expunged_is_kept_aside_and_comes_back_as_a_new_message(kept):
    kept.append(flags={"\\Seen", "Holiday"})
    kept.append()
    view = kept.select()
    expunge(kept, view, [1])
    assert [mailbox for mailbox, _ in listing(kept)] == ["INBOX"]
    assert list(kept.select().uids) == [2]
    (message,) = expunged.listing(kept.path)
    expunged.restore(kept.path, "mx", message)
    view = kept.select()
    flags = dict(kept.fetch(view, Want.FLAGS, lambda m: (m.uid, m.flags - {"\\Recent"})))
    assert flags == {2: frozenset(), 3: {"\\Seen", "Holiday"}}
    assert listing(kept) == []


def test_a_file_whose_name_is_as_long_as_can_be_is_kept_too(kept):
    kept.select()  # makes the Maildir
    name = "1.M2P3Q4." + "x" * 230 + ":2,FS"
    with open(f"{kept.path}/cur/{name}", "wb") as file:
        file.write(b"Subject: long\n\n")
    expunge(kept, kept.select(), [1])
    (message,) = expunged.listing(kept.path)
    expunged.restore(kept.path, "mx", message)
    flags = kept.fetch(kept.select(), Want.FLAGS, lambda m: (m.uid, m.flags - {"\\Recent"}))
    assert flags == [(2, {"\\Flagged", "\\Seen"})]


def test_what_is_moved_or_where_nothing_is_kept_is_not_aside(post):
    post.append()
    expunge(post, post.select(), [1])
    post.account._files.undelete_days = 7
    post.append()
    post.run(post.account.create("Work"))
    post.run(post.select().move([2], "Work"))
    assert listing(post) == []


def test_the_messages_of_a_mailbox_that_is_deleted_are_kept(kept):
    kept.run(kept.account.create("Work"))
    kept.append("Work", flags={"Holiday", "\\Flagged"})
    kept.deliver(folder="Work")
    kept.run(kept.account.delete("Work"))
    assert [mailbox for mailbox, _ in listing(kept)] == ["Work", "Work"]
    for message in expunged.listing(kept.path):
        expunged.restore(kept.path, "mx", message)
    view = kept.select("Work")
    flags = {flags for _, flags in kept.fetch(view, Want.FLAGS, lambda m: (m.uid, m.flags - {"\\Recent"}))}
    assert flags == {frozenset(), frozenset({"\\Flagged"})}, "the keyword's letter went with the mailbox"


def test_what_was_kept_long_enough_goes_at_the_next_expunge_of_another_day(kept):
    for _ in range(3):
        kept.append()
    view = kept.select()
    expunge(kept, view, [1])
    (message,) = expunged.listing(kept.path)
    old = message.path.replace(str(message.expunged_at), str(message.expunged_at - 8 * 86_400))
    os.rename(message.path, old)
    expunge(kept, view, [2])
    assert os.path.exists(old), "today it has been looked at"
    os.utime(f"{kept.path}/posthouse-expunged/purged", (time.time() - 90_000,) * 2)
    expunge(kept, view, [3])
    assert not os.path.exists(old)
    assert len(listing(kept)) == 2


def test_expiry_counts_from_the_last_change_and_reaches_children(post):
    for name in ("Trash", "Trash.Old", "Trashcan"):
        post.run(post.account.create(name))
        post.append(name)
    files = post.account._files
    assert upkeep.expire(files, "Trash", 1) == 0, "however old the message is: it came a moment ago"
    assert upkeep.expire(files, "Trash", 0) == 2
    assert [list(post.select(name).uids) for name in ("Trash", "Trash.Old", "Trashcan")] == [[], [], [1]]
