"""Scanners that are programs: what they find, and what they may not do."""

import asyncio
import os
import sys

import pytest

from posthouse.config.filtering import FilterSettings
from posthouse.filters.command import MAX_OUTPUT, CommandFilter
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.pipeline import Entry, Pipeline
from posthouse.filters.verdict import Verdict
from posthouse.journal.content import Content

MAIL = Mail(Content.of(b"Subject: hello\r\n\r\nbody\r\n"), "trace", "a@a.test", ("b@b.test",))


def scanner(tmp_path, code: str, **settings) -> CommandFilter:
    argv = (sys.executable, "-c", f"import sys, os, time\n{code}", "{file}")
    return CommandFilter("scan", FilterSettings("command", argv=argv, **settings), str(tmp_path))


def judge(one: CommandFilter, tmp_path) -> Verdict:
    try:
        return asyncio.run(one.judge(MAIL))
    finally:
        assert os.listdir(tmp_path) == []


def test_it_is_given_a_file_with_the_whole_message(tmp_path):
    code = "sys.exit(0 if open(sys.argv[1], 'rb').read() == b'Subject: hello\\r\\n\\r\\nbody\\r\\n' else 9)"
    assert judge(scanner(tmp_path, code), tmp_path).reasons == ("no virus",)


def test_an_exit_code_or_a_line_says_that_there_is_a_virus(tmp_path):
    assert judge(scanner(tmp_path, "sys.exit(13)", virus_codes=("13", "14")), tmp_path).viruses == ("unnamed",)
    code = "print('message.eml: Found the Bad-Thing virus'); print('message.eml: Found the Worse virus')"
    found = judge(scanner(tmp_path, code, pattern=r"Found the (\S+) virus"), tmp_path)
    assert found.viruses == ("Bad-Thing", "Worse")


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("print('licence expired'); sys.exit(8)", "exit code 8: licence expired"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
    ],
)
def test_any_other_end_is_a_failure(tmp_path, code, trouble):
    with pytest.raises(FilterTrouble, match=trouble):
        judge(scanner(tmp_path, code), tmp_path)


def test_a_flood_of_output_is_read_and_thrown_away(tmp_path):
    code = f"sys.stdout.write('x' * {MAX_OUTPUT * 20})"
    assert judge(scanner(tmp_path, code, pattern="virus (.*)"), tmp_path).viruses == ()


def test_one_that_hangs_is_killed_with_all_that_it_has_started(tmp_path):
    pids = tmp_path.parent / f"{tmp_path.name}.pids"
    os.mkfifo(pids)  # whoever is killed lets go of it
    code = f"os.open({str(pids)!r}, os.O_WRONLY); os.fork(); time.sleep(600)"

    async def main() -> Verdict:
        (verdict,) = await Pipeline([Entry(scanner(tmp_path, code), 1.0)]).judge(MAIL)
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=30)  # it is killed meanwhile
        return verdict

    descriptor = os.open(pids, os.O_RDONLY | os.O_NONBLOCK)
    try:
        verdict = asyncio.run(main())
        os.set_blocking(descriptor, True)
        assert os.read(descriptor, 1) == b""
    finally:
        os.close(descriptor)
    assert verdict.reasons == ("did not answer: no answer within 1 s",)
    assert os.listdir(tmp_path) == []


def test_a_program_that_is_not_there_is_a_failure(tmp_path):
    settings = FilterSettings("command", argv=("/nowhere/scan", "{file}"))
    with pytest.raises(OSError, match="No such file"):
        judge(CommandFilter("scan", settings, str(tmp_path)), tmp_path)
