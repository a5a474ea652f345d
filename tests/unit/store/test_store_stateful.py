"""A mailbox with two sessions and a foreign program, against a model that is a dictionary."""

import os
import shutil
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.store.conftest import Post

from posthouse.store import sync
from posthouse.store.model import Want

LETTERS = {"\\Flagged": "F", "\\Seen": "S", "\\Deleted": "T", "\\Answered": "R"}
NAMES = {letter: flag for flag, letter in LETTERS.items()}


class Client:
    """What a client believes after everything it was told."""

    def __init__(self, view):
        self.view = view
        self.uids = list(view.uids)
        self.flags = {}

    def hear(self, changes):
        for seq in changes.expunged:
            del self.uids[seq - 1]
        if changes.exists is not None:
            assert changes.exists >= len(self.uids)
            self.uids = list(self.view.uids)[: changes.exists]
        for seq, uid, flags in changes.flags:
            assert self.uids[seq - 1] == uid
            self.flags[uid] = flags - {"\\Recent"}
        assert self.uids == list(self.view.uids)
        assert self.uids == sorted(set(self.uids))


class Mailbox(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.post = Post(self.directory)
        # Steps follow each other within one tick of the clock: only reading at every look is exact then.
        self.settle, sync.SETTLE_NS = sync.SETTLE_NS, -1
        self.files = {}  # base: letters
        self.uid_of = {}  # base: UID, once any client was told
        self.lost = {}  # base: letters, of what the foreign program deleted
        self.returned = set()  # bases that a backup brought back
        self.past = set()  # UIDs of messages that were deleted and put back since

    @initialize()
    def begin(self):
        self.clients = [Client(self.post.select()), Client(self.post.select())]

    @rule()
    def foreign_delivers(self):
        self.files[self.post.foreign.deliver()] = ""

    @rule(letters=st.sets(st.sampled_from("FRS")))
    def foreign_stores_in_cur(self, letters):
        info = "".join(sorted(letters))
        self.files[self.post.foreign.deliver(place="cur", info=f":2,{info}")] = info

    @precondition(lambda self: self.files)
    @rule(data=st.data(), letters=st.sets(st.sampled_from("FRST")))
    def foreign_flags(self, data, letters):
        base = data.draw(st.sampled_from(sorted(self.files)))
        self.files[base] = "".join(sorted(letters))
        self.post.foreign.flag(base, self.files[base])

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def foreign_deletes(self, data):
        base = data.draw(st.sampled_from(sorted(self.files)))
        self.post.foreign.delete(base)
        self.lost[base] = self.files.pop(base)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def a_backup_brings_back(self, data):
        """Under the same name; where somebody has looked meanwhile, it is a new message."""
        base = data.draw(st.sampled_from(sorted(self.lost)))
        self.files[base] = self.lost.pop(base)
        self.returned.add(base)
        self.post.foreign.deliver(place="cur", info=f":2,{self.files[base]}", base=base)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), letters=st.sets(st.sampled_from("FRS")))
    def two_programs_rename_at_once(self, data, letters):
        """One links the file to its new name and unlinks the old one, or dies before that: one of the two stays."""
        base = data.draw(st.sampled_from(sorted(self.files)))
        path = self.post.foreign.find(base)
        target = f"{self.post.path}/cur/{base}:2,{''.join(sorted(letters))}"
        if not os.path.exists(target):
            os.link(path, target)
            if data.draw(st.booleans()):
                os.unlink(path)
            else:
                self.client_looks_without_expunges(0)
            (self.files[base],) = self.post.foreign.letters(base)

    @rule()
    def we_deliver(self):
        self.files[os.path.basename(self.post.deliver())] = ""

    @rule(which=st.integers(0, 1))
    def client_appends(self, which):
        before = self.post.foreign.bases()
        appended = self.post.append(flags={"\\Seen"})
        (base,) = self.post.foreign.bases() - before
        self.files[base] = "S"
        self.told(base, appended.uids[0])

    @rule(which=st.integers(0, 1), flag=st.sampled_from(sorted(LETTERS)), mode=st.sampled_from(["add", "remove"]))
    def client_flags(self, which, flag, mode):
        client = self.clients[which]
        for uid, flags in self.post.run(client.view.store_flags(client.uids, frozenset({flag}), mode)):
            client.flags[uid] = flags - {"\\Recent"}
            assert (flag in flags) == (mode == "add")
        for base, letters in self.files.items():
            if self.uid_of.get(base) in client.uids:
                changed = set(letters) | {LETTERS[flag]} if mode == "add" else set(letters) - {LETTERS[flag]}
                self.files[base] = "".join(sorted(changed))

    @rule(which=st.integers(0, 1))
    def client_expunges(self, which):
        client = self.clients[which]
        self.post.run(client.view.expunge())
        for base, letters in list(self.files.items()):
            if "T" in letters and self.uid_of.get(base) in client.uids:
                del self.files[base]

    @rule(which=st.integers(0, 1))
    def client_moves_the_first(self, which):
        client = self.clients[which]
        copied = self.post.run(client.view.move(client.uids[:1], "INBOX"))
        for old, new in zip(copied.source_uids, copied.target_uids, strict=True):
            (base,) = (base for base, uid in self.uid_of.items() if uid == old)
            letters = self.files.pop(base)
            (fresh,) = self.post.foreign.bases() - self.files.keys()
            self.files[fresh] = letters
            self.told(fresh, new)

    @rule(which=st.integers(0, 1))
    def client_looks_without_expunges(self, which):
        client = self.clients[which]
        before = list(client.uids)
        client.hear(self.post.run(client.view.refresh(expunge=False)))
        assert client.uids[: len(before)] == before
        self.told_all(client)

    @rule(which=st.integers(0, 1))
    def client_looks(self, which):
        client = self.clients[which]
        client.hear(self.post.run(client.view.refresh(expunge=True)))
        self.told_all(client)
        assert set(client.uids) == {self.uid_of[base] for base in self.files}
        for uid, flags in self.post.fetch(client.view, Want.SIZE, lambda m: (m.uid, m.flags, m.size, m.body())[:2]):
            base = next(base for base, known in self.uid_of.items() if known == uid)
            assert flags - {"\\Recent"} == {NAMES[letter] for letter in self.files[base]}

    @rule(what=st.sampled_from(["deleted", "cut", "garbage"]))
    def index_is_lost(self, what):
        path = f"{self.post.path}/posthouse.index"
        if what == "deleted":
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(path + suffix):
                    os.unlink(path + suffix)
        else:
            self.post.store.account("example.org/bob/")._files.index.close()
            with open(path, "wb") as file:
                file.write(b"" if what == "cut" else b"not a database" * 1000)

    @rule(octets=st.binary(min_size=1, max_size=12).filter(lambda octets: b"\n" not in octets))
    def uidlist_is_torn(self, octets):
        with open(f"{self.post.path}/dovecot-uidlist", "ab") as file:
            file.write(octets)

    def told_all(self, client):
        paths = {}
        for uid, path in self.post.fetch(client.view, Want.DATE, lambda m: (m.uid, m.entry.path)):
            paths[uid] = path.partition("/")[2].partition(":")[0]
        for uid, base in sorted(paths.items()):
            self.told(base, uid)

    def told(self, base, uid):
        """A UID is for one message, for ever."""
        if self.uid_of.get(base, uid) != uid:
            assert base in self.returned
            self.past.add(self.uid_of.pop(base))
        if base not in self.uid_of:
            assert uid not in self.past
            assert uid not in self.uid_of.values()
            self.uid_of[base] = uid

    def teardown(self):
        sync.SETTLE_NS = self.settle
        self.post.close()
        shutil.rmtree(self.directory)


Mailbox.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTwoSessionsAndAForeignProgramAgreeOnTheMailbox = Mailbox.TestCase
