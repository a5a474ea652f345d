"""posthouse mailbox index, on real Maildirs."""

import json
import os

import pytest
from tests.unit.cli.test_cli_mailbox import Office
from tests.unit.store.conftest import MAIL

from posthouse.cli.commands import app
from posthouse.store.layout import Folder, make_folder


@pytest.fixture
def office(tmp_path):
    (tmp_path / "data").mkdir()
    office = Office(tmp_path / "data")
    make_folder(Folder(office.path, ""))
    return office


def shown(office, *arguments):
    (row,) = json.loads(office.run("mailbox", "index", "bob@example.test", "--json", *arguments, app=app))
    return row


def test_an_index_is_shown_made_made_anew_and_switched_off(office):
    for number in range(3):
        office.foreign.deliver(MAIL.replace(b"goodbye", b"word%d" % number))
    row = shown(office)
    assert (row["use"], row["messages"], row["missing"], row["size_bytes"]) == ("on (default)", 0, 3, 0)
    row = shown(office, "--build")
    assert (row["messages"], row["missing"], row["too_large"]) == (3, 0, 0)
    assert row["size_bytes"] > 0
    assert shown(office, "--rebuild")["messages"] == 3
    row = shown(office, "--use", "off", "--build")
    assert (row["use"], row["messages"]) == ("off", 0)
    assert not os.path.exists(f"{office.path}/posthouse.search")
    office.configure("[mail]\nsearch_index = false\n")
    assert shown(office, "--use", "default", "--build")["use"] == "off (default)"
    row = shown(office, "--use", "on", "--build")
    assert (row["use"], row["messages"]) == ("on", 3)
    text = office.run("mailbox", "index", "--all", app=app)
    assert text.splitlines()[0].split() == ["ACCOUNT", "USE", "MESSAGES", "MISSING", "TOO", "LARGE", "BYTES"]
    assert text.splitlines()[1].split()[:5] == ["bob@example.test", "on", "3", "0", "0"]


def test_what_is_no_choice_is_refused(office):
    office.run("mailbox", "index", "bob@example.test", "--use", "maybe", app=app, code=2)
