"""What the index keeps of messages for the next time, and messages rendered column by column."""

import os

from posthouse.message.query import Header, Not
from posthouse.store import cache
from posthouse.store.model import Want

SUBJECT = frozenset({b"subject"})


def letter(number):
    return f"Received: by mx\r\nSubject: letter\r\n {number}\r\nFrom: a@example.org\r\n\r\nbody {number}\r\n".encode()


def fill(post, count):
    post.append(data=letter(1))
    for number in range(2, count + 1):
        post.foreign.deliver(letter(number))


def fields(post, view, names=SUBJECT, **how):
    return post.fetch(view, Want.FIELDS, lambda message: message.header_fields(names), names=names, **how)


def blocks(columns):
    return list(columns.values[Want.FIELDS])


def sets(post):
    with post.account._files.index.reading() as database:
        names = [name for (name,) in database.execute("SELECT names FROM field_set ORDER BY id")]
        rows = database.execute("SELECT field_set, count(*) FROM fields GROUP BY 1 ORDER BY 1").fetchall()
    return names, [count for _, count in rows]


def test_fields_once_asked_for_come_from_the_index_in_columns(post):
    fill(post, cache.WORTH_A_SET + 2)
    view = post.select()
    first = fields(post, view, render_columns=blocks)
    again = fields(post, view, render_columns=blocks)
    assert again == [first]
    assert first[1].startswith(b"Subject: letter\r\n ")
    assert first[1].endswith(b"\r\n\r\n")


def test_where_one_message_is_not_known_yet_each_is_looked_at(post):
    fill(post, cache.WORTH_A_SET)
    before = fields(post, post.select(), render_columns=blocks)
    post.append(data=letter(99))
    view = post.select()
    after = fields(post, view, render_columns=blocks)
    assert after == [*before, b"Subject: letter\r\n 99\r\n\r\n"]
    assert fields(post, view, render_columns=blocks) == [after]


def test_columns_leave_out_who_is_gone(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    everything = fields(post, view)
    other = post.select()
    post.run(other.store_flags([2], frozenset({"\\Deleted"}), "add"))
    post.run(other.expunge())
    assert fields(post, view, render_columns=blocks) == [everything[0], *everything[2:]]
    assert sets(post)[1] == [cache.WORTH_A_SET - 1]


def test_a_gap_among_the_uids_is_no_hindrance(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    everything = fields(post, view)
    assert fields(post, view, uids=[1, 3, 4], render_columns=blocks) == [[everything[at] for at in (0, 2, 3)]]


def test_few_messages_make_no_new_set_of_fields(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    fields(post, view, uids=[1, 2])
    assert sets(post) == ([], [])


def test_the_oldest_set_of_fields_goes(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    for number in range(cache.FIELD_SETS + 2):
        names = frozenset({b"subject", b"x-%d" % number})
        assert fields(post, view, names) == fields(post, view, names)
    names, counts = sets(post)
    assert names == [f'["subject", "x-{number}"]' for number in range(2, cache.FIELD_SETS + 2)]
    assert counts == [cache.WORTH_A_SET] * cache.FIELD_SETS


def test_names_with_blanks_are_not_taken_for_two(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    fields(post, view, frozenset({b"from", b"subject"}))
    assert set(fields(post, view, frozenset({b"from subject"}))) == {b"\r\n"}


def test_numbers_and_dates_come_in_columns(post):
    fill(post, 3)
    view = post.select()
    want = Want.SIZE | Want.DATE | Want.FLAGS
    one_by_one = post.fetch(view, want, lambda m: (m.uid, m.flags, m.size, int(m.internal_date.timestamp())))

    def rows(columns):
        return list(
            zip(columns.uids, columns.flags, columns.values[Want.SIZE], columns.values[Want.DATE], strict=True)
        )

    post.fetch(view, want, lambda message: message.body())  # sizes that no file name says
    assert post.fetch(view, want, lambda message: message, render_columns=rows) == [one_by_one]


def test_a_search_finds_the_same_with_and_without_what_it_kept(post):
    fill(post, cache.WORTH_A_SET)
    post.append(data=b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n")
    view = post.select()
    last = cache.WORTH_A_SET + 1
    for text, found in (("LETTER 1", 1), ("r\t1", 0), ("grüße", 1), ("from", 0)):
        first = post.run(view.search(Header("subject", text)))
        assert len(first) == (found if text != "LETTER 1" else sum(str(n).startswith("1") for n in range(1, last)))
        assert post.run(view.search(Header("Subject", text))) == first
        assert post.run(view.search(Not(Header("Subject", text)))) == [u for u in view.uids if u not in first]


def test_sets_of_fields_go_with_their_messages(post):
    fill(post, cache.WORTH_A_SET)
    view = post.select()
    fields(post, view)
    for name in os.listdir(f"{post.path}/cur"):
        os.unlink(f"{post.path}/cur/{name}")
    post.run(view.refresh(expunge=True))
    assert sets(post)[1] == []
