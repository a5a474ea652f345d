"""What a crash, a bad disk or a careless copy leaves of index and uidlist: everybody keeps his UID."""

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.conftest import Post

from posthouse.store.errors import NoSuchMailbox
from posthouse.store.model import Want

MESSAGES = 12


class Kept:
    """A mailbox, closed and put back as it was before each example."""

    def __init__(self, directory):
        self.post = Post(directory)
        for number in range(MESSAGES):
            self.post.deliver(b"Subject: %d\r\n\r\nbody\r\n" % number)
        self.bases = self.seen(self.post)
        self.account = self.post.path
        self.copy = f"{directory}/copy"
        self.post.account._files.index.close()
        shutil.copytree(self.account, self.copy)

    def again(self):
        """The index thinks it is up to date: files and stamps are as they were."""
        shutil.rmtree(self.account)
        shutil.copytree(self.copy, self.account)

    def seen(self, post):
        """UIDVALIDITY, and by UID which file it is."""
        store = post.restarted()
        try:
            view = post.run(store.account("example.org/bob/").select("INBOX"))
            paths = dict(post.fetch(view, Want.DATE | Want.ENVELOPE, lambda m: (m.uid, m.envelope and m.entry.path)))
            return view.uidvalidity, {uid: path[4:].partition(":")[0] for uid, path in paths.items()}
        finally:
            store.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    kept = Kept(tmp_path_factory.mktemp("damage"))
    yield kept
    kept.post.close()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_uidlist_cut_at_any_octet_renumbers_nobody(kept, data):
    kept.again()
    path = f"{kept.account}/dovecot-uidlist"
    os.truncate(path, data.draw(st.integers(0, os.path.getsize(path))))
    assert kept.seen(kept.post) == kept.bases
    assert kept.seen(kept.post) == kept.bases


@given(st.data(), st.binary(min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_rubbish_in_the_uidlist_gives_no_uid_to_another_message(kept, data, octets):
    kept.again()
    path = f"{kept.account}/dovecot-uidlist"
    with open(path, "r+b") as file:
        file.seek(data.draw(st.integers(0, os.path.getsize(path) - 1)))
        file.write(octets)
    uidvalidity, bases = kept.seen(kept.post)
    assert set(bases.values()) == set(kept.bases[1].values())
    if uidvalidity == kept.bases[0]:
        assert all(kept.bases[1].get(uid, base) == base for uid, base in bases.items())


@given(st.data(), st.one_of(st.binary(min_size=1, max_size=500), st.integers(1, 20000).map(bytes)))
@settings(max_examples=100, deadline=None)
def test_rubbish_in_the_index_gives_no_uid_to_another_message(kept, data, octets):
    kept.again()
    path = f"{kept.account}/posthouse.index"
    with open(path, "r+b") as file:
        file.seek(data.draw(st.integers(0, os.path.getsize(path) - 1)))
        file.write(octets)
    try:
        uidvalidity, bases = kept.seen(kept.post)
    except NoSuchMailbox:
        uidvalidity, bases = kept.seen(kept.post)
    assert all(kept.bases[1].get(uid, base) == base for uid, base in bases.items())
    assert uidvalidity == kept.bases[0]
