"""The process that makes search indexes, asked over its real socket."""

import os
import signal
import socket
import time

import pytest
from tests.unit.store.conftest import MAIL, Foreign

from posthouse.config.settings import Mail, Settings
from posthouse.services.indexprocess import Hints, IndexProcess
from posthouse.store import indexing
from posthouse.store.accountfiles import AccountFiles
from posthouse.store.fulltext import Fulltext
from posthouse.store.layout import Folder, make_folder


@pytest.fixture
def house(tmp_path):
    """Two accounts of one message each; ``run`` runs the process until it has heard of nothing more to do."""
    settings = Settings(hostname="mx.example.org", data_dir=str(tmp_path), mail=Mail(root="mail"))
    process = IndexProcess(settings, f"{tmp_path}/search.sock")
    for name in ("ann", "bob"):
        path = f"{tmp_path}/mail/example.org/{name}"
        make_folder(Folder(path, ""))
        Foreign(path).deliver(MAIL)
    return process, tmp_path


def files_of(tmp_path, name):
    path = f"{tmp_path}/mail/example.org/{name}"
    return AccountFiles(path, "mx.example.org", None), Fulltext(path, by_default=True)


def indexed(tmp_path, name):
    files, index = files_of(tmp_path, name)
    try:
        return indexing.state(files, index).messages
    finally:
        files.index.close()


def run_in_child(process, hints):
    """Runs it in a process of its own, as it is meant to, gives it hints, and waits for what must be there then."""
    ready, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process.run(lambda: os.write(said, b"!"))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(said)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    asking = Hints(process.path)
    for hint in hints:
        asking(hint)
    asking.close()
    return pid


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_makes_the_indexes_that_it_is_asked_for_and_stops_when_told(house):
    process, tmp_path = house
    hints = ["example.org/nobody/", "../etc/", "\0", "", "example.org/bob/", "example.org/bob/"]
    pid = run_in_child(process, hints)
    try:
        wait_until(lambda: indexed(tmp_path, "bob") == 1)
        assert indexed(tmp_path, "ann") == 0
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0


def test_an_account_that_says_no_loses_its_index(house):
    process, tmp_path = house
    files, index = files_of(tmp_path, "bob")
    assert sum(indexing.bring_up_to_date(files, index)) == 1
    files.index.close()
    index.choose("off")
    pid = run_in_child(process, ["example.org/bob/"])
    try:
        wait_until(lambda: not os.path.exists(index.path))
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0


def test_whoever_asks_needs_nobody_to_hear_it(tmp_path):
    hints = Hints(f"{tmp_path}/nobody.sock")
    hints("example.org/bob/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(f"{tmp_path}/nobody.sock")
        for _ in range(5_000):
            hints("example.org/bob/")
    hints.close()
