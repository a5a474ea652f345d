"""runtime/child.py: programs that behave, and those that don't. Each runs in a process of its own, as in service."""

import multiprocessing
import os
import pwd
import socket

import pytest

from posthouse.runtime import child
from posthouse.runtime.privileges import Identity

FORKS = multiprocessing.get_context("fork")


def sh(script):
    def work():
        os.execv("/bin/sh", ["sh", "-c", script])

    return work


def _run(pipe, work, source, options):
    try:
        pipe.send(child.run(work, iter(source), **options))
    except OSError as error:
        pipe.send(error)


def run(work, source=(b"the message\n",), *, seconds=30.0, identity=None, **options):
    ours, theirs = FORKS.Pipe()
    options |= {"seconds": seconds, "identity": identity}
    process = FORKS.Process(target=_run, args=(theirs, work, source, options))
    process.start()
    try:
        assert ours.poll(60)
        return ours.recv()
    finally:
        process.join()


def test_it_reads_the_message_and_its_exit_code_and_the_end_of_what_it_prints_are_kept():
    ended = run(sh("read line; echo got $line; echo last >&2; exit 67"))
    assert (ended.code, ended.output) == (67, b"got the message\nlast\n")


def test_a_gigabyte_of_output_is_read_and_thrown_away():
    ended = run(sh("head -c 1000000000 /dev/zero; echo; echo done; exit 3"))
    assert ended.code == 3
    assert len(ended.output) == child.KEPT_OUTPUT
    assert ended.output.endswith(b"\ndone\n")


def test_it_need_not_read_what_it_is_given():
    assert run(sh("exec <&-; exit 0"), [b"x" * 1_000_000] * 20).code == 0


def test_what_takes_too_long_is_killed_with_all_that_it_has_started(tmp_path):
    """In its process group or out of it; each keeps a named pipe open as long as it lives."""
    for name in ("group", "session"):
        os.mkfifo(tmp_path / name)
    handles = [os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("group", "session")]
    script = (
        f"sh -c 'exec >{tmp_path}/group; sleep 1000' & "
        f"setsid sh -c 'exec >{tmp_path}/session; trap \"\" TERM HUP; sleep 1000' & sleep 1000"
    )
    ended = run(sh(script), seconds=1.0)
    assert ended.timed_out
    for handle in handles:
        assert os.read(handle, 1) == b""
        os.close(handle)


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path):
    ended = run(sh(f"sleep 1000 & echo $! > {tmp_path}/pid; exit 0"))
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert ended.code == 0
    assert not ended.timed_out


def test_what_cannot_be_run_is_ours_to_mend():
    ended = run(lambda: os.execv("/no/such/program", ["x"]))
    assert ended.code == child.CANNOT_START
    assert b"No such file" in ended.output


def test_a_message_that_cannot_be_read_to_its_end_is_not_given_as_a_whole_one(tmp_path):
    def source():
        yield b"the beginning\n"
        raise OSError("the disk")

    error = run(sh(f"cat > /dev/null; echo whole > {tmp_path}/whole"), source())
    assert str(error) == "the disk"
    assert not (tmp_path / "whole").exists()


def test_it_ends_with_whoever_waits_for_it():
    here, there = socket.socketpair()
    os.set_inheritable(there.fileno(), True)
    here.close()
    assert run(sh("sleep 1000"), abandoned_when=there.fileno()).abandoned
    there.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
def test_it_is_that_user_without_a_way_back_and_inherits_nothing():
    nobody = pwd.getpwnam("nobody")
    with open("/etc/shadow", "rb") as secret:
        os.set_inheritable(secret.fileno(), True)
        ended = run(sh("id -u; id -G; ls /proc/self/fd"), identity=Identity("nobody", nobody.pw_uid, nobody.pw_gid))
    assert ended.output.split() == [b"%d" % nobody.pw_uid, b"%d" % nobody.pw_gid, b"0", b"1", b"2", b"3"]
