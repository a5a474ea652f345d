"""The supervisor with real processes: each test runs one in an interpreter of its own."""

import signal
import subprocess
import sys
import textwrap

PRELUDE = """
import os, signal, sys, time
from posthouse.runtime import log
from posthouse.runtime.supervisor import Role, Supervisor
log.configure("debug", "text")

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def serve(name):
    def run(ready):
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
        ready()
        say("ready", name, os.getpid())
        while not stop:
            time.sleep(0.01)
        say("drained", name)
    return Role(name, run)
"""


def start(program):
    code = PRELUDE + textwrap.dedent(program)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def words(process):
    return process.stdout.readline().split()


def finish(process):
    out, errors = process.communicate(timeout=30)
    return out, errors, process.returncode


def test_sigterm_drains_every_process():
    process = start('sys.exit(Supervisor([serve("a"), serve("b")], list, lambda: say("all ready")).run())')
    lines = {process.stdout.readline().split()[0] for _ in range(3)}
    assert lines == {"ready", "all"}
    process.send_signal(signal.SIGTERM)
    out, _, code = finish(process)
    assert sorted(out.split("\n")) == ["", "drained a", "drained b"]
    assert code == 0


def test_a_process_that_dies_is_started_again():
    process = start('sys.exit(Supervisor([serve("a")], list, lambda: None).run())')
    _, _, pid = words(process)
    subprocess.run(["kill", "-9", pid], check=True)
    again, name, new_pid = words(process)
    assert (again, name) == ("ready", "a")
    assert new_pid != pid
    process.send_signal(signal.SIGTERM)
    _, errors, code = finish(process)
    assert "process-died" in errors
    assert "signal 9" in errors
    assert code == 0


def test_a_process_that_cannot_start_ends_everything():
    program = """
    def broken(ready):
        raise RuntimeError("no such thing")
    sys.exit(Supervisor([serve("a"), Role("b", broken)], list, lambda: say("never")).run())
    """
    out, errors, code = finish(start(program))
    assert code == 1
    assert "never" not in out
    assert "no such thing" in errors


def test_a_second_sigterm_does_not_wait():
    program = """
    def stubborn(ready):
        signal.signal(signal.SIGTERM, lambda *_: say("asked"))
        ready()
        say("ready")
        while True:
            time.sleep(0.01)
    sys.exit(Supervisor([Role("a", stubborn)], list, lambda: None).run())
    """
    process = start(program)
    assert words(process) == ["ready"]
    process.send_signal(signal.SIGTERM)
    assert words(process) == ["asked"]
    process.send_signal(signal.SIGTERM)
    _, errors, code = finish(process)
    assert "stopping-at-once" in errors
    assert code == 0


def test_sighup_replaces_processes_and_refuses_a_broken_configuration():
    program = """
    calls = []
    def reload():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("line 3: no such key")
        return [serve("new")]
    sys.exit(Supervisor([serve("old")], reload, lambda: None).run())
    """
    process = start(program)
    assert words(process)[:2] == ["ready", "old"]
    process.send_signal(signal.SIGHUP)
    while "line 3: no such key" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGHUP)
    assert {tuple(words(process)[:2]) for _ in range(2)} == {("ready", "new"), ("drained", "old")}
    process.send_signal(signal.SIGTERM)
    out, _, code = finish(process)
    assert "drained new" in out
    assert code == 0


def test_a_reload_whose_processes_do_not_get_ready_leaves_the_old_ones_serving():
    program = """
    def broken(ready):
        raise RuntimeError("no such thing")
    sys.exit(Supervisor([serve("old")], lambda: [serve("new"), Role("b", broken)], lambda: None).run())
    """
    process = start(program)
    _, _, pid = words(process)
    process.send_signal(signal.SIGHUP)
    while "reload-incomplete" not in process.stderr.readline():
        pass
    subprocess.run(["kill", "-9", pid], check=True)
    # What dies now comes back as what it was.
    while (said := words(process))[:2] != ["ready", "old"]:
        assert said[1] == "new"
    process.send_signal(signal.SIGTERM)
    out, _, code = finish(process)
    assert "drained old" in out
    assert code == 0


def test_processes_end_with_a_supervisor_that_is_killed():
    process = start('sys.exit(Supervisor([serve("a")], list, lambda: None).run())')
    words(process)
    process.kill()
    out, _, _ = finish(process)  # ends only when the child, too, has closed its output
    assert "drained a" in out
