"""cli/mailbox.py, on real Maildirs."""

import json
import mailbox
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest
from tests.unit.store.conftest import MAIL, Foreign
from typer.testing import CliRunner

from posthouse.cli import account, domain
from posthouse.cli import mailbox as cli
from posthouse.store import uidlist

FLAGS = "FRS"
LF_MAIL = MAIL.replace(b"\r\n", b"\n")


class Office:
    """An installation with bob@example.test, whose Maildir is at ``path``."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.configuration = f"{data_dir}/posthouse.toml"
        self.configure("")
        self.run("add", "example.test", app=domain.app)
        self.run("add", "bob@example.test", app=account.app)
        self.path = f"{data_dir}/mail/example.test/bob"
        self.foreign = Foreign(self.path)

    def configure(self, text):
        with open(self.configuration, "w") as file:
            file.write(text)

    def run(self, *arguments, app=cli.app, code=0):
        env = {"POSTHOUSE_DATA": str(self.data_dir), "POSTHOUSE_CONFIG": self.configuration}
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=env)
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def listed(self):
        return {box["name"]: box for box in json.loads(self.run("list", "bob@example.test", "--json"))}


@pytest.fixture
def office(tmp_path):
    (tmp_path / "data").mkdir()
    return Office(tmp_path / "data")


@pytest.fixture
def letters(office, tmp_path):
    """Three letters in an mbox file, imported; the second is read, flagged and has a keyword."""
    office.source = tmp_path / "old.mbox"
    office.source.write_bytes(
        b"From a@b  Sun Nov 22 01:02:03 2026\n" + LF_MAIL + b">From x\n\n"
        b"From a@b  Sun Nov 22 01:02:04 2026\nStatus: RO\nX-Status: F\nX-Keywords: Holiday\n" + LF_MAIL + b"2\n\n"
        b"From MAILER-DAEMON Mon Nov 23 01:02 2026\n" + LF_MAIL + b"3\nFrom here on\n\n"
    )
    assert office.run("import", "bob@example.test", office.source) == (
        "3 messages added, 0 were there, 0 could not be taken\n"
    )
    return office


def contents(path):
    """Bodies with their flags, whatever the files are called."""
    found = mailbox.Maildir(path, create=False)
    letters = {(message.get_payload(), message.get_flags(), int(message.get_date())) for message in found}
    return {(body.replace("\r\n", "\n"), flags, date) for body, flags, date in letters}


def test_an_mbox_file_is_imported_once_with_flags_and_dates(letters):
    wanted = contents(letters.path)
    assert {flags for _, flags, _ in wanted} == {"", "FSa"}, "a stands for Holiday"
    assert {body for body, _, _ in wanted} == {
        "Dear Bob,\ngoodbye.\nFrom x\n",
        "Dear Bob,\ngoodbye.\n2\n",
        "Dear Bob,\ngoodbye.\n3\nFrom here on\n",
    }
    assert {date for _, _, date in wanted} == {1795309323, 1795309324, 1795395720}
    again = letters.run("import", "bob@example.test", letters.source)
    assert again == "0 messages added, 3 were there, 0 could not be taken\n"
    assert letters.listed()["INBOX"]["messages"] == 3


@pytest.mark.parametrize("kind", ["out.mbox", "out.zip", "out"])
def test_what_is_exported_is_imported_elsewhere_as_it_was(letters, tmp_path, kind):
    target = tmp_path / kind
    if not kind.endswith(".mbox"):
        letters.run("import", "bob@example.test", letters.source, "--mailbox", "Archiv.Ä")
    assert letters.run("export", "bob@example.test", target).startswith("3" if kind.endswith(".mbox") else "6")
    letters.run("add", "eve@example.test", app=account.app)
    letters.run("import", "eve@example.test", target)
    eve = f"{letters.data_dir}/mail/example.test/eve"
    assert {(body, "".join(sorted(set(flags) & set(FLAGS)))) for body, flags, _ in contents(eve)} == {
        (body, "".join(sorted(set(flags) & set(FLAGS)))) for body, flags, _ in contents(letters.path)
    }
    if not kind.endswith(".mbox"):
        assert len(contents(f"{eve}/.Archiv.&AMQ-")) == 3
    letters.run("export", "bob@example.test", target, code=1)


def test_a_zip_archive_that_is_built_to_hurt_writes_nothing_elsewhere(office, tmp_path):
    source = tmp_path / "evil.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("../../../etc/x.eml", MAIL)
        archive.writestr("/absolute/y.eml", MAIL + b"y")
        archive.writestr("a\1b/../z.eml", MAIL + b"z")
        archive.writestr("Good/1,S.eml", MAIL + b"g")
        archive.writestr("run.sh", b"#!/bin/sh")
    assert "3 messages added, 0 were there, 1 could not" in office.run("import", "bob@example.test", source, code=1)
    places = {os.path.relpath(place, office.path) for place, _, files in os.walk(office.path) if files}
    assert not any(".." in place.split("/") for place in places)
    assert office.listed()["Good"]["messages"] == 1
    assert sorted(os.listdir(tmp_path)) == ["data", "evil.zip"]
    assert sum(box["messages"] for box in office.listed().values()) == 3


def test_an_archive_packed_as_no_mail_is_is_not_unpacked_and_one_that_is_none_is_said(office, tmp_path):
    source = tmp_path / "bomb.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.eml", MAIL + bytes(8_000_000))
        archive.writestr("big.mbox", b"From a@b  Sun Nov 22 01:02:03 2026\n" + bytes(8_000_000))
        archive.writestr("good.eml", MAIL)
    assert "1 messages added, 0 were there, 2 could not" in office.run("import", "bob@example.test", source, code=1)
    source.write_bytes(b"PK no archive")
    assert "0 messages added, 0 were there, 1 could not" in office.run("import", "bob@example.test", source, code=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_root_all_files_come_to_belong_to_the_user_that_serves(office, tmp_path):
    office.configure('user = "nobody"\n')
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)  # that user has to reach it: above tmp_path only root may pass
        data = f"{place}/data"
        shutil.copytree(office.data_dir, data)
        nobody = pwd.getpwnam("nobody").pw_uid
        for path in (data, f"{data}/posthouse.db", f"{data}/mail"):
            os.makedirs(path, exist_ok=True) if path.endswith("mail") else None
            os.chown(path, nobody, -1)
        source = tmp_path / "only-root-reads.mbox"
        source.write_bytes(b"From a@b  Sun Nov 22 01:02:03 2026\n" + LF_MAIL)
        command = [f"{sys.prefix}/bin/posthouse", f"--config={data}/posthouse.toml", f"--data={data}", "mailbox"]
        for arguments in (["import", "bob@example.test", str(source)], ["export", "bob@example.test", f"{place}/out"],
                          ["repair", "--all"], ["check", "--all"], ["expire", "--all"]):  # fmt: skip
            subprocess.run([*command, *arguments], check=True, timeout=60)
        made = [f"{there}/{name}" for there, folders, names in os.walk(f"{data}/mail") for name in folders + names]
        assert any("/cur/" in path for path in made)
        assert {os.lstat(path).st_uid for path in made} == {nobody}
        assert len(contents(f"{place}/out")) == 1


def test_what_is_no_mail_is_said_and_not_taken(office, tmp_path):
    source = tmp_path / "notes.txt"
    source.write_bytes(b"nothing here is mail\n")
    assert "0 messages added, 0 were there, 1 could not" in office.run("import", "bob@example.test", source, code=1)


def test_damage_is_found_and_mended_without_another_uid(letters):
    before = letters.listed()
    uids = uidlist.read(f"{letters.path}/dovecot-uidlist").uids
    assert letters.run("check", "bob@example.test") == "1 accounts, 0 problems\n"
    with open(f"{letters.path}/posthouse.index", "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    os.truncate(f"{letters.path}/dovecot-uidlist", os.path.getsize(f"{letters.path}/dovecot-uidlist") - 3)
    left = f"{letters.path}/tmp/left"
    with open(left, "wb"):
        pass
    os.mkdir(f"{letters.path}/cur/directory")
    found = json.loads(letters.run("check", "--all", "--json", code=1))
    assert {finding["path"].removeprefix(letters.path) for finding in found} == {
        "/posthouse.index", "/dovecot-uidlist", "/cur/directory"
    }  # fmt: skip
    assert "1 problems are left" in letters.run("repair", "--all", code=1)
    os.rmdir(f"{letters.path}/cur/directory")
    assert letters.run("check", "--all") == "1 accounts, 0 problems\n"
    assert letters.listed()["INBOX"]["messages"] == before["INBOX"]["messages"]
    assert letters.listed()["INBOX"]["uidvalidity"] == before["INBOX"]["uidvalidity"]
    assert {base: uid for base, uid in uids.items() if uid < 3}.items() <= uidlist.read(
        f"{letters.path}/dovecot-uidlist"
    ).uids.items()


def test_what_a_uidlist_lost_is_mended_from_the_index_with_the_same_uids(letters):
    letters.listed()
    path = f"{letters.path}/dovecot-uidlist"
    before = uidlist.read(path).uids
    with open(path, "rb") as file:
        header, one, *others = file.readlines()
    with open(path, "r+b") as file:  # in place, and with the time of before: nobody notices
        state = os.stat(path)
        file.writelines([header, b"9" + one[1:], *others])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    found = json.loads(letters.run("check", "--all", "--json", code=1))
    assert [finding["problem"] for finding in found] == ["knows other UIDs of 'INBOX' than its uidlist"]
    with open(path, "wb") as file:
        file.write(header)
    letters.run("repair", "bob@example.test")
    assert uidlist.read(path).uids == before
    assert letters.run("check", "--all") == "1 accounts, 0 problems\n"


def test_trash_expires_and_comes_back_while_it_is_kept_aside(letters):
    letters.configure("[mail]\ntrash_days = 30\nundelete_days = 7\n")
    letters.run("import", "bob@example.test", letters.source, "--mailbox", "Trash")
    letters.run("import", "bob@example.test", letters.source, "--mailbox", "Trash.Older")
    assert letters.run("expire", "--all") == "", "nothing has been there for 30 days"
    letters.configure("[mail]\ntrash_days = 0\nundelete_days = 7\n")
    assert letters.run("expire", "--all") == ""
    assert letters.listed()["Trash"]["messages"] == 3


def test_expunged_messages_are_restored_as_new_ones_with_their_flags(letters):
    letters.configure("[mail]\nundelete_days = 7\n")
    before = letters.listed()["INBOX"]
    aside = f"{letters.path}/posthouse-expunged/INBOX"
    os.makedirs(aside)
    for name in os.listdir(f"{letters.path}/cur"):
        os.rename(f"{letters.path}/cur/{name}", f"{aside}/{int(time.time())}.{name}T")
    letters.listed()
    shown = json.loads(letters.run("restore", "bob@example.test", "--dry-run", "--json"))
    assert [row["mailbox"] for row in shown] == ["INBOX"] * 3
    assert letters.run("restore", "bob@example.test") == "3 messages restored\n"
    after = letters.listed()["INBOX"]
    assert (after["messages"], after["unseen"], after["uidvalidity"]) == (3, 2, before["uidvalidity"])
    assert after["uidnext"] == before["uidnext"] + 3
    assert letters.run("restore", "bob@example.test") == "0 messages restored\n"


def test_who_has_no_mailbox_or_no_account_is_named(office):
    office.run("list", "bob@example.test", code=1)
    office.run("list", "nobody@example.test", code=1)
    office.run("check", code=2)
