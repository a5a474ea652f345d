"""Address lists of header fields."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.addresslist import MAX_ADDRESSES, GroupEnd, GroupStart, Mailbox, parse_addresses


def mailbox(local, domain, name=None, adl=None):
    return Mailbox(name, adl, local, domain)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (b"a@b.test", [mailbox(b"a", b"b.test")]),
        (
            b'"Joe Q. Public" <john.q.public@one.test>,\r\n M. Smith <mary@two.test>, j@three.test, Who? <w@y.test>',
            [
                mailbox(b"john.q.public", b"one.test", b"Joe Q. Public"),
                mailbox(b"mary", b"two.test", b"M. Smith"),
                mailbox(b"j", b"three.test"),
                mailbox(b"w", b"y.test", b"Who?"),
            ],
        ),
        (
            b"A Group:Ed Jones <c@a.test>,joe@where.test;, after@z.test",
            [
                GroupStart(b"A Group"),
                mailbox(b"c", b"a.test", b"Ed Jones"),
                mailbox(b"joe", b"where.test"),
                GroupEnd(),
                mailbox(b"after", b"z.test"),
            ],
        ),
        (b"Undisclosed recipients:;", [GroupStart(b"Undisclosed recipients"), GroupEnd()]),
        (b"(Empty list)(start)Hidden :(nobody(that I know)) ;", [GroupStart(b"Hidden"), GroupEnd()]),
        (
            b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [mailbox(b"pete", b"silly.test", b"Pete")],
        ),
        (b"john . doe @ x . test (John Doe)", [mailbox(b"john.doe", b"x.test", b"John Doe")]),
        (
            b"Mary <@node.test, @other.test:mary@ex.test>",
            [mailbox(b"mary", b"ex.test", b"Mary", b"@node.test,@other.test")],
        ),
        (b'"a b"@[192.0.2.1]', [mailbox(b"a b", b"[192.0.2.1]")]),
        (b'"a \\"b\\"" <a@b>', [mailbox(b"a", b"b", b'a "b"')]),
        (b"=?utf-8?q?a?= =?utf-8?q?b?= <x@y>", [mailbox(b"x", b"y", b"=?utf-8?q?a?= =?utf-8?q?b?=")]),
        (b"J\xc3\xb6rg <j@y>", [mailbox(b"j", b"y", b"J\xc3\xb6rg")]),
    ],
)
def test_addresses_are_read(value, items):
    """RFC 5322 §3.4, appendix A; RFC 3501 §7.4.2: without quoting."""
    assert parse_addresses(value) == items


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (b"", []),
        (b",, ;(nobody)", []),
        (b"a@b; c@d", [mailbox(b"a", b"b"), mailbox(b"c", b"d")]),
        (b"<a@b, c@d", [mailbox(b"a", b"b"), mailbox(b"c", b"d")]),
        (b"<<a@b>>", [mailbox(b"a", b"b")]),
        (b"a@b>", [mailbox(b"a", b"b")]),
        (b"john@x.test <john@x.test>", [mailbox(b"john", b"x.test", b"john@x.test")]),
        (b"John Smith", [mailbox(b"John Smith", b"")]),
        (b"John <john>", [mailbox(b"john", b"", b"John")]),
        (b"Nobody <>", [mailbox(b"", b"", b"Nobody")]),
        (b"a@b@c", [mailbox(b"a@b", b"c")]),
        (b'"open <a@b>', [mailbox(b"open <a@b>", b"")]),
        (b"a@b (open", [mailbox(b"a", b"b", b"open")]),
        (b"group: a@b", [GroupStart(b"group"), mailbox(b"a", b"b"), GroupEnd()]),
        (b"one: two: a@b;", [GroupStart(b"one"), mailbox(b"a", b"b"), GroupEnd()]),
    ],
)
def test_broken_addresses_give_what_can_be_had(value, items):
    assert parse_addresses(value) == items


@pytest.mark.parametrize(
    "pattern", [b"(", b"<", b'"', b"[", b",", b"a,", b":", b";", b"@", b"\\", b"<@", b'""', b"()", b"a:;", b'"\\']
)
def test_a_megabyte_of_anything_takes_linear_time_and_bounded_memory(pattern):
    assert len(parse_addresses(pattern * (1_000_000 // len(pattern)))) <= MAX_ADDRESSES


TOKENS = st.sampled_from(
    [b"a", b"@", b"<", b">", b",", b";", b":", b'"', b"(", b")", b"\\", b"[", b"]", b" ", b"\r\n ", b"\0", b"\xff"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TOKENS, max_size=30).map(b"".join) | st.binary(max_size=60))
def test_groups_are_balanced_and_never_nest_whatever_comes(value):
    inside = False
    for item in parse_addresses(value):
        if isinstance(item, Mailbox):
            continue
        assert inside == isinstance(item, GroupEnd)
        inside = not inside
    assert not inside
