"""store/mbox.py: the end of an mbox file, read back by the standard library."""

import fcntl
import mailbox
import os
import subprocess
import sys

import pytest

from posthouse.base.errors import TryLater
from posthouse.store import mbox

ONE = [b"From a@b  Sun Nov 22 01:02:03 2026\n", b"Subject: one\n\n>From x\n"]


def test_messages_are_read_back_and_no_lock_is_left(tmp_path):
    path = str(tmp_path / "box")
    for _ in range(3):
        mbox.append(path, iter([*ONE, b"no line end"]))
    read = mailbox.mbox(path)
    assert [message["Subject"] for message in read] == ["one"] * 3
    read.close()
    assert os.listdir(tmp_path) == ["box"]


def test_what_breaks_off_is_cut_off_again(tmp_path):
    path = tmp_path / "box"
    mbox.append(str(path), iter(ONE))
    before = path.read_bytes()

    def breaking():
        yield b"From half a message"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        mbox.append(str(path), breaking())
    assert path.read_bytes() == before


def test_what_a_crash_left_without_its_end_swallows_no_other_message(tmp_path):
    path = tmp_path / "box"
    path.write_bytes(b"From a@b  Sun Nov 22 01:02:03 2026\nSubject: half")
    mbox.append(str(path), iter(ONE))
    read = mailbox.mbox(path)
    assert [message["Subject"] for message in read] == ["half", "one"]
    read.close()


def test_another_program_that_holds_the_lock_is_waited_for(tmp_path):
    path = tmp_path / "box"
    path.touch()
    holder = (
        "import fcntl,sys;f=open(sys.argv[1],'r+');fcntl.lockf(f,fcntl.LOCK_EX);print(1,flush=True);sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(TryLater, match="locked by another program"):
            mbox.append(str(path), iter(ONE), lock_seconds=0.1)
        process.stdin.close()
    mbox.append(str(path), iter(ONE))
    with path.open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "directory"])
def test_nothing_but_a_regular_file_of_one_name_is_written_to(tmp_path, kind):
    other, path = tmp_path / "other", tmp_path / "box"
    other.write_text("theirs")
    match kind:
        case "link":
            path.symlink_to(other)
        case "second name":
            path.hardlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    with pytest.raises((OSError, TryLater)):
        mbox.append(str(path), iter(ONE))
    assert other.read_text() == "theirs"
