"""A store on real directories, a loop to run it on, and another program that uses the same Maildir."""

import asyncio
import itertools
import os

import pytest

from posthouse.journal.journal import Content, Journal
from posthouse.store.model import NewMessage
from posthouse.store.store import Store

MAIL = b"Subject: a letter\r\nFrom: Ann <ann@example.org>\r\n\r\nDear Bob,\r\ngoodbye.\r\n"


class Foreign:
    """Another Maildir program: it takes no lock of ours and knows nothing of an index."""

    def __init__(self, path):
        self.path = path
        self._numbers = itertools.count(1)

    def deliver(self, data=MAIL, place="new", info="", base=None):
        base = base or f"16000{next(self._numbers):05d}.M1P2.elsewhere"
        with open(f"{self.path}/{place}/{base}{info}", "wb") as file:
            file.write(data)
        return base

    def find(self, base):
        for place in ("new", "cur"):
            for name in os.listdir(f"{self.path}/{place}"):
                if name.partition(":")[0] == base:
                    return f"{self.path}/{place}/{name}"
        return None

    def flag(self, base, letters):
        os.rename(self.find(base), f"{self.path}/cur/{base}:2,{letters}")

    def delete(self, base):
        os.unlink(self.find(base))

    def letters(self, base):
        """The flags in every name that a message has."""
        names = os.listdir(f"{self.path}/new") + os.listdir(f"{self.path}/cur")
        return [name.partition(":2,")[2] for name in names if name.partition(":")[0] == base]

    def bases(self):
        names = os.listdir(f"{self.path}/new") + os.listdir(f"{self.path}/cur")
        return {name.partition(":")[0] for name in names}


class Post:
    """The store with what it needs; ``run`` runs a coroutine."""

    def __init__(self, directory):
        self.root = f"{directory}/mail"
        self.path = f"{self.root}/example.org/bob"
        self.loop = asyncio.new_event_loop()
        self.journal = Journal(f"{directory}/journal", segment_bytes=1 << 20, segments=2)
        self.journal.start()
        self.store = Store(self.root, self.journal, None, hostname="mx.example.org")
        self.account = self.store.account("example.org/bob/")
        self.foreign = Foreign(self.path)

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def select(self, name="INBOX", *, read_only=False):
        return self.run(self.account.select(name, read_only=read_only))

    def append(self, name="INBOX", data=MAIL, flags=(), date=None):
        return self.run(self.account.append(name, [NewMessage(Content.of(data), frozenset(flags), date)]))

    def deliver(self, data=MAIL, prefix=b"", folder="INBOX"):
        content = Content.of(data)
        put = self.run(self.store.plan_delivery("example.org/bob/", content, prefix, folder=folder))
        self.run(self.journal.commit(content, [put]))
        return put.path

    def fetch(self, view, want, render, uids=None, **how):
        async def collect():
            uids_ = view.uids if uids is None else uids
            return [item async for batch in view.fetch(uids_, want, render, **how) for item in batch]

        return self.run(collect())

    def restarted(self):
        """Another process's store on the same directory."""
        return Store(self.root, self.journal, None, hostname="mx.example.org")

    def close(self):
        self.store.close()
        self.journal.close()
        self.loop.close()


@pytest.fixture
def post(tmp_path):
    post = Post(tmp_path)
    yield post
    post.close()
