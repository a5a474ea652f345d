"""services/milters/edited.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.errors import Refused
from posthouse.journal.content import Content
from posthouse.message.headers import fields, header_end
from posthouse.protocols.milter.events import AddHeader, ChangeHeader, InsertHeader
from posthouse.services.milters.edited import HEAD_BYTES, Edited

PREFIX = b"Received: from here\r\n\tby there\r\nX-Ours: 1\r\n"
MESSAGE = b"Received: from afar\r\nSubject: one\r\n two\r\nX-A: 1\r\nX-a: 2\r\n\r\nbody\r\n.\r\n"


def edited(message: bytes = MESSAGE, prefix: bytes = PREFIX) -> Edited:
    return Edited(prefix, Content.of(message), "")


def whole(one: Edited) -> bytes:
    front, content = one.finish()
    return front + content.data()


def changed(*changes: object, message: bytes = MESSAGE, prefix: bytes = PREFIX, has_space: bool = False) -> bytes:
    one = edited(message, prefix)
    for change in changes:
        one.change(change, has_space=has_space)
    return whole(one)


def test_a_milter_sees_all_fields_but_the_one_by_which_we_took_the_message():
    assert list(edited().header()) == [
        (b"X-Ours", b" 1"),
        (b"Received", b" from afar"),
        (b"Subject", b" one\r\n two"),
        (b"X-A", b" 1"),
        (b"X-a", b" 2"),
    ]
    assert b"".join(edited().body()) == b"body\r\n.\r\n"


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        b"body only\r\n",
        b"\r\nbody\r\n",
        b"",
        b"A: b\r\n",
        b"A: b\r\n\r\n",
        b"stray line\r\nA: b\r\n\r\nx",
        b"A: b",
    ],
)
def test_what_is_not_changed_is_not_touched(message):
    prefix = PREFIX if fields(message) else PREFIX + b"\r\n"
    content = Content.of(message)
    front, after = Edited(prefix, content, "").finish()
    assert after is content
    assert (front + after.data()).startswith(prefix + message)


def test_fields_are_added_at_the_end_and_inserted_by_their_place():
    assert changed(AddHeader(b"X-New", b"n")) == PREFIX + MESSAGE.replace(b"X-a: 2\r\n", b"X-a: 2\r\nX-New: n\r\n")
    assert changed(InsertHeader(0, b"X-New", b"n")) == b"X-New: n\r\n" + PREFIX + MESSAGE
    received = b"Received: from here\r\n\tby there\r\n"
    assert changed(InsertHeader(1, b"X-New", b"n")) == received + b"X-New: n\r\nX-Ours: 1\r\n" + MESSAGE
    assert changed(InsertHeader(2, b"X-New", b"n")) == PREFIX + b"X-New: n\r\n" + MESSAGE
    assert changed(InsertHeader(99, b"X-New", b"n")) == changed(AddHeader(b"X-New", b"n"))


def test_what_is_put_in_front_leaves_the_content_as_it_is():
    one = edited()
    one.change(InsertHeader(1, b"DKIM-Signature", b"v=1"), has_space=False)
    _, content = one.finish()
    assert content.data() == MESSAGE


def test_the_index_th_field_of_a_name_is_changed_and_removed():
    assert changed(ChangeHeader(2, b"x-A", b"3")) == PREFIX + MESSAGE.replace(b"X-a: 2", b"x-A: 3")
    assert changed(ChangeHeader(1, b"X-A", b"")) == PREFIX + MESSAGE.replace(b"X-A: 1\r\n", b"")
    assert changed(ChangeHeader(3, b"X-A", b"3")) == changed(AddHeader(b"X-A", b"3"))
    assert changed(ChangeHeader(3, b"X-A", b"")) == PREFIX + MESSAGE
    assert changed(ChangeHeader(1, b"Received", b"")) == PREFIX + MESSAGE.removeprefix(b"Received: from afar\r\n")


def test_a_message_without_header_or_body_can_get_them():
    assert (
        changed(AddHeader(b"A", b"b"), message=b"text\r\n", prefix=PREFIX + b"\r\n")
        == PREFIX + b"A: b\r\n\r\ntext\r\n"
    )
    assert changed(AddHeader(b"A", b"b"), message=b"X: y") == PREFIX + b"X: y\r\nA: b\r\n"


def test_the_blank_after_the_colon_is_the_milters_where_that_was_agreed():
    assert changed(AddHeader(b"A", b"b"), AddHeader(b"B", b"  b"), has_space=True, message=b"\r\n") == (
        PREFIX + b"A:b\r\nB:  b\r\n\r\n"
    )


def test_a_body_is_replaced_in_pieces_and_again_by_the_next_milter(tmp_path):
    one = Edited(PREFIX, Content.of(MESSAGE), str(tmp_path))
    one.replace_body(b"first\n")
    one.drop_body()
    one.replace_body(b"new\r")
    one.replace_body(b"\nbare\nend")
    one.take_body()
    assert b"".join(one.body()) == b"new\r\nbare\r\nend\r\n"
    one.replace_body(b"last\r\n")
    one.take_body()
    assert whole(one) == PREFIX + MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\nlast\r\n"


def test_a_header_of_any_size_is_not_looked_at():
    with pytest.raises(Refused):
        edited(b"A: b\r\n" * (HEAD_BYTES // 6 + 1))


NAMES = st.sampled_from([b"X-A", b"Subject", b"Received", b"New"])
CHANGES = st.one_of(
    st.builds(AddHeader, NAMES, st.binary(max_size=30)),
    st.builds(InsertHeader, st.integers(0, 9), NAMES, st.binary(max_size=30)),
    st.builds(ChangeHeader, st.integers(0, 4), NAMES, st.binary(max_size=30)),
)


@given(st.lists(CHANGES, max_size=8), st.booleans())
def test_no_value_ends_its_field_or_the_header(changes, has_space):
    made = changed(*changes, has_space=has_space)
    head, _, body = made.partition(b"\r\n\r\n")
    assert body == b"body\r\n.\r\n"
    assert made.count(b"\r") == made.count(b"\n") == made.count(b"\r\n")
    known = {b"x-a", b"x-ours", b"subject", b"received", b"new"}
    assert {field.name.lower() for field in fields(made)} <= known
    assert header_end(made) == len(head) + 4
