"""services/restrictions/tables.py and actions.py"""

import asyncio
import os

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Reply, TryLater
from posthouse.config.restrictions import Restriction
from posthouse.services.restrictions.actions import parse_action
from posthouse.services.restrictions.decision import PERMIT, Decision, Verdict
from posthouse.services.restrictions.tables import Tables, read
from posthouse.services.textfiles import LOOK_SECONDS, TableError

ACCESS = """\
# comment
example.org         REJECT
good.example.org    OK
192.0.2.7           DUNNO
192.0.2.0/24        REJECT network
192.0.0.0/16        DEFER
2001:db8::/32       REJECT six
friend@             OK
user@example.net    550 5.1.1 gone
<>                  DEFER reports
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "access").write_text(ACCESS)
    return read(str(tmp_path / "access"))


def test_a_client_is_looked_up_by_name_then_parents_then_address_then_the_smallest_network(table):
    assert table.client("mail.good.example.org", "192.0.2.1") == "OK"
    assert table.client("other.example.org", "192.0.2.1") == "REJECT"
    assert table.client("", "192.0.2.7") == "DUNNO"
    assert table.client("", "192.0.2.8") == "REJECT network"
    assert table.client("", "192.0.9.8") == "DEFER"
    assert table.client("", "2001:db8::1") == "REJECT six"
    assert table.client("", "203.0.113.1") is None
    assert table.client("localhost", "unix") is None


def test_an_address_is_looked_up_whole_without_extension_by_domain_and_by_local_part(table):
    assert table.address("User+x@Example.NET", "+") == "550 5.1.1 gone"
    assert table.address("any@sub.example.org", "+") == "REJECT"
    assert table.address("friend@elsewhere.example", "+") == "OK"
    assert table.address("", "+") == "DEFER reports"
    assert table.address("any@elsewhere.example", "+") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok", PERMIT),
        ("1234567", PERMIT),
        ("dunno", None),
        ("REJECT", Decision(Verdict.REFUSE, "Access denied", Reply(554, "5.7.1", "Access denied"))),
        ("REJECT 5.1.1 no", Decision(Verdict.REFUSE, "no", Reply(554, "5.1.1", "no"))),
        ("450 4.2.0 wait", Decision(Verdict.REFUSE, "wait", Reply(450, "4.2.0", "wait"))),
        ("DEFER_IF_PERMIT x", Decision(Verdict.DEFER_IF_PERMIT, "x", Reply(450, "4.7.1", "x"))),
        ("WARN look", Decision(Verdict.WARN, "look")),
        ("PREPEND X-A: b", Decision(Verdict.PREPEND, header="X-A: b")),
        ("reject_rbl_client a.example", Restriction("reject_rbl_client", "a.example")),
    ],
)
def test_an_action_is_what_postfix_says(text, expected):
    assert parse_action(text) == expected


@pytest.mark.parametrize(
    "text", ["BCC", "", "450 5.1.1 x", "PREPEND no header", "PREPEND A: b\r\nC: d", "FILTER a:b"]
)
def test_an_action_that_does_not_exist_is_an_error(text):
    with pytest.raises(ValueError):
        parse_action(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a.example\n", ":1: 'a.example' has no action"),
        ("# x\n\na.example FILTER\n", ":3: 'FILTER' is no action"),
        ("192.0.2.1/24 OK\n", ":1: 192.0.2.1/24 has host bits set"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path, text, wrong):
    (tmp_path / "access").write_text(text)
    with pytest.raises(TableError, match=wrong):
        read(str(tmp_path / "access"))


def test_a_table_that_changes_is_read_anew_and_a_broken_one_leaves_what_was(tmp_path):
    path, clock = tmp_path / "access", FakeClock()

    async def go() -> None:
        tables = Tables(clock)
        with pytest.raises(TryLater):
            await tables.table(str(path))
        path.write_text("a.example OK\n")
        assert (await tables.table(str(path))).host("a.example") == "OK"
        path.write_text("a.example REJECT\n")
        os.utime(path, (1, 1))
        clock.advance(LOOK_SECONDS)
        assert (await tables.table(str(path))).host("a.example") == "REJECT"
        path.write_text("a.example NONSENSE\n")
        clock.advance(LOOK_SECONDS)
        assert (await tables.table(str(path))).host("a.example") == "REJECT"
        path.unlink()
        clock.advance(LOOK_SECONDS)
        assert (await tables.table(str(path))).host("a.example") == "REJECT"

    asyncio.run(go())


def test_a_name_of_many_labels_costs_a_look_up_each(tmp_path):
    (tmp_path / "access").write_text("".join(f"h{number}.example REJECT\n" for number in range(100_000)))
    table = read(str(tmp_path / "access"))
    assert table.host("a." * 120 + "h99999.example") == "REJECT"
    assert table.host("." * 255) is None
