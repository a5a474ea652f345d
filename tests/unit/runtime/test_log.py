"""The log's lines: what a machine reads and what a person reads."""

import json
import subprocess
import sys

from posthouse.runtime.log import base32, new_trace_id


def logged(form, statement):
    code = f"from posthouse.runtime import log as l\nl.configure('info', {form!r})\nlog = l.log\n{statement}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr


def test_json_is_one_object_a_line():
    line = logged("json", "log.info('delivered', trace='t1', recipient='a@b.c', size=3)")
    assert line.count(b"\n") == 1
    event = json.loads(line)
    assert (event["event"], event["level"], event["trace"], event["size"]) == ("delivered", "info", "t1", 3)


def test_a_peer_cannot_forge_a_line():
    hostile = "x\\n12:00:00 info login login=root\\x1b[2J"
    for form in ("text", "json"):
        line = logged(form, f"log.info('refused', helo='{hostile}')")
        assert line.count(b"\n") == 1
        assert b"\x1b" not in line


def test_octets_that_are_no_text_do_not_keep_a_line_from_being_written():
    """A login name in Latin-1, decoded with surrogateescape."""
    for form in ("text", "json"):
        line = logged(form, "log.info('login-failed', login='\\udcff', peer='127.0.0.1')")
        assert line.count(b"\n") == 1
        assert b"127.0.0.1" in line.decode("utf-8").encode()


def test_an_exception_brings_its_traceback():
    code = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')"
    assert b"ZeroDivisionError" in logged("text", code)
    assert "ZeroDivisionError" in json.loads(logged("json", code))["exception"]


def test_trace_ids_are_short_unique_and_sort_by_time():
    ids = [new_trace_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:11] for i in ids] == sorted(i[:11] for i in ids)
    assert all(len(i) == 16 and i.isalnum() for i in ids)


def test_base32_sorts_like_the_number():
    numbers = [0, 1, 31, 32, 1023, 1024, 10**9]
    assert [base32(n, 7) for n in numbers] == sorted(base32(n, 7) for n in numbers)
