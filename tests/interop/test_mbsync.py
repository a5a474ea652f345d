"""mbsync keeps a local Maildir and a mailbox here the same, both ways."""

import imaplib
import os
import re

import pytest
from tests.interop.house import PASSWORD, mail, run, without_trace


class Synced:
    """A local Maildir tree that mbsync keeps in step with an account."""

    def __init__(self, program, house, address, directory) -> None:
        self.program = program
        self.directory = directory
        self.local = directory / "mail"
        self.local.mkdir()
        self.settings = directory / "mbsyncrc"
        self.settings.write_text(
            f"IMAPAccount house\nHost 127.0.0.1\nPort {house.ports['imap']}\nUser {address}\nPass {PASSWORD}\n"
            f"SSLType STARTTLS\nCertificateFile {house.data}/tls/certificate.pem\n\n"
            "IMAPStore far\nAccount house\n\n"
            f"MaildirStore near\nPath {self.local}/\nInbox {self.local}/INBOX\nSubFolders Verbatim\n\n"
            "Channel all\nFar :far:\nNear :near:\nPatterns *\n"
            "Create Both\nRemove Both\nExpunge Both\nSyncState *\nCopyArrivalDate yes\n"
        )

    def sync(self) -> str:
        return run(self.program, "-D", "-c", self.settings, "-a", home=self.directory)

    def files(self, folder: str = "INBOX") -> dict[str, bytes]:
        """Content by file name, without the field by which mbsync knows a message it has just copied."""
        places = [self.local / folder / "new", self.local / folder / "cur"]
        return {
            entry.name: re.sub(rb"X-TUID: .*\n", b"", entry.read_bytes())
            for place in places
            for entry in sorted(place.iterdir())
        }

    def name_of(self, content: bytes, folder: str = "INBOX") -> str:
        (name,) = [name for name, data in self.files(folder).items() if content in data]
        return name

    def flag(self, content: bytes, letters: str) -> None:
        name = self.name_of(content)
        new = self.local / "INBOX" / ("cur" if (self.local / "INBOX" / "cur" / name).exists() else "new") / name
        os.rename(new, self.local / "INBOX" / "cur" / (name.partition(":")[0] + f":2,{letters}"))


@pytest.fixture
def alice(house, account):
    address = account("alice")
    house.deliver(address, *[mail(f"number {number}", f"body {number}\r\n") for number in range(3)])
    return address


@pytest.fixture
def synced(need, house, alice, tmp_path):
    """Synced for the first time."""
    synced = Synced(need("mbsync"), house, alice, tmp_path)
    synced.sync()
    return synced


def transfers(protocol: str) -> list[str]:
    """The commands that change something or fetch a message, as mbsync's debug output shows them."""
    return re.findall(r">>> \d+ (?:UID )?(APPEND|STORE|COPY|MOVE|EXPUNGE|FETCH \S+ \(?[^)\r\n]*BODY\S*)", protocol)


def test_everything_comes_down_and_a_second_run_transfers_nothing(house, alice, synced):
    stored = [message.replace(b"\r\n", b"\n") for message in house.messages(alice)]
    assert list(synced.files().values()) == stored
    assert transfers(synced.sync()) == []
    assert [message.replace(b"\r\n", b"\n") for message in house.messages(alice)] == stored


def test_flags_travel_both_ways(house, alice, synced):
    synced.flag(b"body 0", "FRS")
    with house.imap(alice) as session:
        session.store("2", "+FLAGS", r"(\Answered \Flagged)")
    synced.sync()
    assert house.flags(alice) == [{"\\Flagged", "\\Answered", "\\Seen"}, {"\\Answered", "\\Flagged"}, set()]
    assert synced.name_of(b"body 1").endswith(":2,FR")
    assert transfers(synced.sync()) == []


def test_deletions_travel_both_ways(house, alice, synced):
    synced.flag(b"body 0", "T")
    with house.imap(alice) as session:
        session.store("2", "+FLAGS", r"(\Deleted)")
        session.expunge()
    synced.sync()
    assert b"body 2" in house.only(alice)
    assert list(synced.files()) == [synced.name_of(b"body 2")]


def test_new_messages_and_new_folders_travel_both_ways(house, alice, synced):
    made_here, made_there = mail("made at the client", "at the client\r\n"), mail("made at the server")
    for place in ("cur", "new", "tmp"):
        (synced.local / "Projects" / place).mkdir(parents=True)
    (synced.local / "Projects" / "new" / "1.local").write_bytes(made_here.replace(b"\r\n", b"\n"))
    with house.imap(alice) as session:
        session.create("Reisen.&AMQ-rger")
        session.append("Reisen.&AMQ-rger", r"(\Seen)", imaplib.Time2Internaldate(1_700_000_000), made_there)
    synced.sync()
    far = house.only(alice, "Projects")
    assert re.sub(rb"X-TUID: \S+\r\n", b"", far) == made_here
    ((name, content),) = synced.files("Reisen/&AMQ-rger").items()
    assert content.replace(b"\n", b"\r\n") == made_there
    assert name.endswith(":2,S")
    assert transfers(synced.sync()) == []


def test_uids_survive_a_rebuilt_index(house, alice, synced):
    """The index is only a cache: a client that has synced once sees no difference when it is gone."""
    before = synced.files()
    user = alice.partition("@")[0]
    removed = list((house.data / "mail" / "example.test" / user).glob("posthouse.index*"))
    assert removed
    for path in removed:
        path.unlink()
    protocol = synced.sync()
    assert "UIDVALIDITY" in protocol
    assert transfers(protocol) == []
    assert synced.files() == before
    assert [without_trace(message)[:5] for message in house.messages(alice)] == [b"From:"] * 3
