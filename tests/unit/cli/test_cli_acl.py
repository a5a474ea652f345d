"""cli/acl.py, on real Maildirs."""

import json

import pytest
from typer.testing import CliRunner

from posthouse.cli import account, acl, domain, mailbox


class Office:
    """An installation with alice, bob and carol, of whom alice has a Maildir with a folder."""

    def __init__(self, data_dir):
        self.env = {"POSTHOUSE_DATA": str(data_dir), "POSTHOUSE_CONFIG": ""}
        self.run(domain.app, "add", "example.test")
        for name in ("alice", "bob", "carol"):
            self.run(account.app, "add", f"{name}@example.test")
        self.path = data_dir / "mail" / "example.test" / "alice"
        for folder in (self.path, self.path / ".Work"):
            for part in ("cur", "new", "tmp"):
                (folder / part).mkdir(parents=True)

    def run(self, app, *arguments, code=0):
        result = CliRunner().invoke(app, list(arguments), env=self.env)
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def listed(self, command="list", who="alice"):
        found = json.loads(self.run(acl.app, command, f"{who}@example.test", "--json"))
        return [(row["mailbox"], row["who"], row["rights"]) for row in found]


@pytest.fixture
def office(tmp_path):
    (tmp_path / "data").mkdir()
    return Office(tmp_path / "data")


def test_rights_are_given_listed_and_taken_away(office):
    office.run(acl.app, "grant", "alice@example.test", "Bob@example.test", "srl", "--mailbox", "Work")
    office.run(acl.app, "grant", "alice@example.test", "anyone", "l")
    office.run(acl.app, "grant", "alice@example.test", "bob@example.test", "+d", "--mailbox", "Work")
    assert office.listed() == [("INBOX", "anyone", "l"), ("Work", "bob@example.test", "lrste")]
    assert (office.path / ".Work" / "courierimapacl").read_text() == "user=bob@example.test lrste\n"
    everybody, own = ("INBOX", "alice@example.test", "l"), ("Work", "alice@example.test", "lrste")
    assert office.listed("shared", "bob") == [everybody, own]
    assert office.listed("shared", "carol") == [everybody]
    office.run(acl.app, "revoke", "alice@example.test", "bob@example.test")
    assert office.listed() == [("INBOX", "anyone", "l")]
    assert office.listed("shared", "bob") == [everybody]
    assert "MAILBOX  WHO     RIGHTS" in office.run(acl.app, "list", "alice@example.test")


@pytest.mark.parametrize("arguments", [("bob", "xyz"), ("two words", "lr"), ("", "lr")])
def test_what_is_no_right_and_nobody_is_refused(office, arguments):
    office.run(acl.app, "grant", "alice@example.test", *arguments, code=2)
    assert not (office.path / "courierimapacl").exists()


def test_repair_takes_over_what_courier_wrote(office):
    (office.path / ".Work" / "courierimapacl").write_text("owner aceilrstwx\nuser=bob@example.test lr\n")
    assert office.listed("shared", "bob") == []
    office.run(mailbox.app, "repair", "--all")
    assert office.listed("shared", "bob") == [("Work", "alice@example.test", "lr")]
