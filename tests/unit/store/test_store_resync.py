"""Clients that go away and come back, against the mailbox as it is: what QRESYNC has to be right about."""

import itertools
import os
import shutil
import tempfile
import time
from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.store.conftest import Post

from posthouse.store import modseqs, sync

FLAGS = ["\\Flagged", "\\Seen", "\\Deleted", "\\Answered"]


class Client:
    """Believes what it is told, remembers it while it is away, and resynchronises (RFC 7162 §3.2.5)."""

    def __init__(self, post):
        self.post = post
        self.view = None
        self.uidvalidity = self.modseq = 0
        self.flags = {}

    def connect(self):
        view = self.view = self.post.select()
        if view.uidvalidity != self.uidvalidity:
            self.flags = {}
            self.modseq = 0
        assert view.modseq >= self.modseq
        missed = self.post.run(view.missed(self.modseq))
        for low, high in missed.vanished:
            for uid in range(low, high + 1):
                self.flags.pop(uid, None)
        for _, uid, flags in view.flags([uid for uid, _ in missed.changed]):
            self.flags[uid] = flags - {"\\Recent"}
        self.uidvalidity, self.modseq = view.uidvalidity, view.modseq
        assert self.flags == self.truth(view)

    def truth(self, view):
        return {uid: flags - {"\\Recent"} for _, uid, flags in view.flags(view.uids)}

    def look(self, *, expunge):
        view = self.view
        changes = self.post.run(view.refresh(expunge=expunge, own=True))
        for uid in changes.vanished:
            del self.flags[uid]
        for (_, uid, flags), modseq in zip(changes.flags, changes.modseqs, strict=True):
            self.flags[uid] = flags - {"\\Recent"}
            assert modseq <= view.known_modseq
        if changes.exists is not None:
            for _, uid, flags in view.flags(view.uids):
                self.flags.setdefault(uid, flags - {"\\Recent"})
        assert view.modseq >= self.modseq
        self.modseq = view.modseq
        assert self.flags == self.truth(view)

    def disconnect(self):
        self.view.close()
        self.view = None


class Resynchronised(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.post = Post(self.directory)
        self.settle, sync.SETTLE_NS = sync.SETTLE_NS, -1
        self.kept, modseqs.KEPT = modseqs.KEPT, 2
        self.hours = itertools.count(1)
        modseqs.time = SimpleNamespace(time_ns=self.some_time_later)
        self.index = f"{self.post.path}/posthouse.index"

    def some_time_later(self):
        """Losing an index or the power takes longer than a test has."""
        return time.time_ns() + next(self.hours) * 3600 * 10**9

    @initialize()
    def begin(self):
        self.post.select().close()
        self.clients = [Client(self.post) for _ in range(3)]

    def a_client(self, data, *, online):
        found = [client for client in self.clients if (client.view is not None) == online]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(which=st.integers(0, 2))
    def comes_or_goes(self, which):
        client = self.clients[which]
        client.connect() if client.view is None else client.disconnect()

    @rule(data=st.data(), expunge=st.booleans())
    def looks(self, data, expunge):
        if client := self.a_client(data, online=True):
            client.look(expunge=expunge)

    @rule(count=st.integers(1, 3))
    def messages_come(self, count):
        for _ in range(count):
            self.post.append(flags={"\\Seen"})

    @rule()
    def a_message_is_delivered(self):
        self.post.deliver()

    @rule(
        data=st.data(),
        flag=st.sampled_from(FLAGS),
        mode=st.sampled_from(["add", "remove", "replace"]),
        since=st.booleans(),
    )
    def flags_are_stored(self, data, flag, mode, since):
        client = self.a_client(data, online=True)
        if client is None or not client.view.uids:
            return
        uids = data.draw(st.lists(st.sampled_from(list(client.view.uids)), unique=True))
        known = client.modseq if since else None
        stored = self.post.run(client.view.store_unchanged(sorted(uids), frozenset({flag}), mode, known))
        assert not (stored.modified and known is None)
        assert {uid for uid, _, _ in stored.messages}.isdisjoint(stored.modified)
        if data.draw(st.booleans()):
            client.view.told(stored)
            for uid, flags, _ in stored.messages:
                client.flags[uid] = flags - {"\\Recent"}
        elif stored.messages:
            client.look(expunge=False)

    @rule(data=st.data())
    def deleted_ones_are_expunged(self, data):
        if client := self.a_client(data, online=True):
            self.post.run(client.view.expunge())

    @precondition(lambda self: self.post.foreign.bases())
    @rule(data=st.data(), letters=st.sets(st.sampled_from("FRST")))
    def foreign_flags(self, data, letters):
        self.post.foreign.flag(
            data.draw(st.sampled_from(sorted(self.post.foreign.bases()))), "".join(sorted(letters))
        )

    @precondition(lambda self: self.post.foreign.bases())
    @rule(data=st.data())
    def foreign_deletes(self, data):
        self.post.foreign.delete(data.draw(st.sampled_from(sorted(self.post.foreign.bases()))))

    @rule()
    def the_index_is_lost(self):
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.index + suffix):
                os.unlink(self.index + suffix)

    @rule(data=st.data())
    def the_power_fails(self, data):
        """What the index learned last is lost with it; the Maildir is as it was a moment later, or as it is."""
        files = self.post.store.account("example.org/bob/")._files
        files.index.close()
        if not os.path.exists(self.index) or os.path.exists(self.index + "-wal"):
            return
        shutil.copy(self.index, self.index + ".old")
        names = {base: self.post.foreign.find(base) for base in self.post.foreign.bases()}
        for client in self.clients:
            if client.view is None:
                client.connect()
            self.flags_are_stored(data, data.draw(st.sampled_from(FLAGS)), "add", since=False)
            client.look(expunge=True)
            client.disconnect()
        files.index.close()
        if data.draw(st.booleans()):
            for base in names.keys() & self.post.foreign.bases():
                os.rename(self.post.foreign.find(base), names[base])
        os.replace(self.index + ".old", self.index)
        with files.index.changing() as database:
            database.execute("UPDATE account SET boot = 'another'")
        files.index.close()
        for client in self.clients:
            client.connect()

    def teardown(self):
        for client in self.clients:
            if client.view is not None:
                client.look(expunge=True)
                client.disconnect()
            client.connect()
        assert len({(client.uidvalidity, client.modseq) for client in self.clients}) == 1
        assert self.clients[0].flags == self.clients[1].flags == self.clients[2].flags
        sync.SETTLE_NS, modseqs.KEPT = self.settle, self.kept
        modseqs.time = time
        self.post.close()
        shutil.rmtree(self.directory)


Resynchronised.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestWhoeverComesBackHasTheMailboxAsItIs = Resynchronised.TestCase
