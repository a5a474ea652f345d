"""The search index finds exactly what looking at the messages finds, whatever became of it."""

import contextlib
import os
import pathlib
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.conftest import MAIL, Post
from tests.unit.store.test_store_search import GERMAN, NESTED

from posthouse.message import query as q
from posthouse.store import fulltext, indexing, searchtext
from posthouse.store.fulltext import Fulltext

CHINESE = (
    "Subject: 会议\r\nContent-Type: text/plain; charset=gb18030\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode(
        "gb18030"
    )
    + "明天下午三点在会议室见。\r\n".encode("gb18030")
)


@pytest.fixture
def index(post):
    """The account's search index; ``asked`` counts who asked for it to be brought up to date."""
    asked = []
    index = post.account._files.fulltext = Fulltext(post.path, by_default=True, ask=lambda: asked.append(1))
    return index, asked


def build(post, index):
    return sum(indexing.bring_up_to_date(post.account._files, index[0]))


def found(post, view, key):
    """By the index and, which has to be the same, by looking."""
    files = post.account._files
    with_index = post.run(view.search(key))
    kept, files.fulltext = files.fulltext, None
    try:
        assert post.run(view.search(key)) == with_index
    finally:
        files.fulltext = kept
    return with_index


def knows(post, view, index):
    texts = index[0].open(post.account._files.index.path, view.scope().key)
    if texts is None:
        return []
    try:
        return sorted(texts.uids)
    finally:
        texts.close()


def inside(index):
    return contextlib.closing(sqlite3.connect(index[0].path, isolation_level=None))


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (q.Text("berlin"), [1]),
        (q.Body("berlin"), []),
        (q.Body("SCHÖNE grüße"), [1]),
        (q.Text("GRÜSSE"), []),
        (q.Body("straßenFEST"), [2]),
        (q.Body("invisible"), []),
        (q.Text("subject: within"), [2]),
        (q.Body("inner words"), [2]),
        (q.Text("会议"), [3]),
        (q.Body("会议室见"), [3]),
        (q.Text("三"), [3]),
        (q.Body("见。"), [3]),
        (q.Body("会议"), [3]),
        (q.Text("\U0010ffff\U0010ffff"), []),
        (q.Text("a\ud7ff"), []),
        (q.Body(""), [1, 2, 3]),
        (q.Text("nowhere"), []),
        (q.Text('"*" OR'), []),
        (q.Not(q.Text("berlin")), [2, 3]),
        (q.Or(q.Text("berlin"), q.Body("words")), [1, 2]),
        (q.And((q.Body("e"), q.Header("Subject", "parts"))), [2]),
        (q.Or(q.Body("berlin"), q.Text("berlin")), [1]),
        (q.And((q.Not(q.Body("berlin")), q.Text("berlin"))), [1]),
    ],
)
def test_what_is_indexed_is_found_by_any_part_of_it(post, index, key, uids):
    for data in (GERMAN, NESTED, CHINESE):
        post.append(data=data)
    view = post.select()
    assert build(post, index) == 3
    assert knows(post, view, index) == [1, 2, 3]
    assert found(post, view, key) == uids


def test_what_came_after_the_index_was_made_is_found_too(post, index):
    post.append(data=GERMAN)
    view = post.select()
    build(post, index)
    post.deliver(NESTED)
    post.run(view.refresh(expunge=True))
    assert knows(post, view, index) == [1]
    assert found(post, view, q.Text("inner words")) == [2]
    assert build(post, index) == 1
    assert knows(post, view, index) == [1, 2]
    assert found(post, view, q.Text("inner words")) == [2]


def test_expunged_messages_leave_the_index(post, index):
    for data in (GERMAN, NESTED):
        post.append(data=data)
    view = post.select()
    build(post, index)
    post.run(view.store_flags([1], frozenset({"\\Deleted"}), "add"))
    post.run(view.expunge())
    post.run(view.refresh(expunge=True))
    build(post, index)
    with inside(index) as database:
        assert database.execute("SELECT count(*), max(uid) FROM letter").fetchone() == (1, 2)
        assert database.execute("SELECT count(*) FROM words").fetchone() == (1,)
        matching = "SELECT count(*) FROM document WHERE document MATCH ?"
        assert database.execute(matching, ('"BER"',)).fetchone() == (0,)
        assert database.execute(matching, ('"INN"',)).fetchone() == (1,)
    assert found(post, view, q.Text("inner words")) == [2]


def test_a_renamed_mailbox_keeps_its_part_and_a_deleted_one_loses_it(post, index):
    for name in ("Old", "Gone"):
        post.run(post.account.create(name))
        post.append(name, data=GERMAN)
    build(post, index)
    post.run(post.account.rename("Old", "New"))
    post.run(post.account.delete("Gone"))
    assert build(post, index) == 1, "all that is done is to forget one message"
    view = post.select("New")
    assert knows(post, view, index) == [1]
    assert found(post, view, q.Text("Berlin")) == [1]
    assert indexing.state(post.account._files, index[0]).messages == 1


def test_another_message_with_the_same_uid_is_not_taken_for_the_one_that_is_indexed(post, index):
    """As after a backup of the Maildir was put back beside a younger search index."""
    post.append(data=GERMAN)
    view = post.select()
    build(post, index)
    with inside(index) as database:
        database.execute("UPDATE letter SET base = 'another'")
    assert knows(post, view, index) == []
    assert found(post, view, q.Text("berlin")) == [1]
    with inside(index) as database:
        database.execute("UPDATE box SET modseq = 0")
    build(post, index)
    assert knows(post, view, index) == [1]


@pytest.mark.parametrize("table", ["words", "document_data"])
def test_rows_that_are_missing_cost_time_and_nothing_else(post, index, table):
    for data in (GERMAN, NESTED):
        post.append(data=data)
    view = post.select()
    build(post, index)
    with inside(index) as database:
        database.execute(f"DELETE FROM {table}")
    assert found(post, view, q.Text("inner words")) == [2]
    assert not os.path.exists(index[0].path)


@pytest.mark.parametrize("damage", ["nonsense", "empty", "version", "torn"])
def test_a_damaged_search_index_is_made_again(post, index, damage):
    for data in (GERMAN, NESTED):
        post.append(data=data)
    view = post.select()
    build(post, index)
    path = index[0].path
    for suffix in ("-wal", "-shm"):
        assert not os.path.exists(path + suffix), "nobody has it open"
    octets = pathlib.Path(path).read_bytes()
    if damage == "version":
        with inside(index) as database:
            database.execute("PRAGMA user_version = 99")
    else:
        written = {"nonsense": b"x" * 8192, "empty": b"", "torn": octets[:4096] + b"\xff" * 16_384}
        pathlib.Path(path).write_bytes(written[damage])
    assert found(post, view, q.Text("inner words")) == [2]
    with_trouble = 0
    for _ in range(2):  # whoever comes upon it first removes it
        try:
            build(post, index)
        except sqlite3.Error:
            with_trouble += 1
    assert with_trouble <= 1
    assert knows(post, view, index) == [1, 2]
    assert found(post, view, q.Text("inner words")) == [2]


def test_a_text_too_long_to_be_indexed_is_looked_at(post, index, monkeypatch):
    monkeypatch.setattr(indexing, "LARGEST_TEXT", 100)
    post.append(data=b"Subject: long\r\n\r\n" + b"words " * 50 + b"needle\r\n")
    post.append(data=b"Subject: short\r\n\r\nneedle\r\n")
    view = post.select()
    build(post, index)
    assert knows(post, view, index) == [2]
    state = indexing.state(post.account._files, index[0])
    assert (state.messages, state.missing, state.too_large) == (1, 0, 1)
    assert found(post, view, q.Body("needle")) == [1, 2]
    assert build(post, index) == 0


def test_an_index_that_is_not_wanted_is_neither_used_nor_asked_for(post, index):
    post.append()
    view = post.select()
    build(post, index)
    index[0].choose("off")
    index[1].clear()
    assert not index[0].is_wanted
    assert found(post, view, q.Text("goodbye")) == [1]
    index[0].keep_up()
    assert index[1] == []
    index[0].choose("on")
    assert index[0].choice == "on"
    assert found(post, view, q.Text("goodbye")) == [1]
    assert index[1]
    index[0].choose("")
    assert index[0].choice == ""
    assert index[0].is_wanted


def test_only_searches_for_text_ask_for_an_index(post, index):
    post.append()
    view = post.select()
    post.run(view.search(q.Header("Subject", "letter")))
    assert index[1] == []
    post.run(view.search(q.And((q.Body("goodbye"), q.All()))))
    assert index[1] == [1]


def test_without_the_trigram_tokenizer_there_is_no_index():
    assert fulltext.is_possible()


ALPHABET = "aAäÄßé ,\n三会" + "\u0130"
TEXTS = st.text(ALPHABET, max_size=12)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_index_and_scan_find_the_same_in_any_text(tmp_path_factory, letters, needles):
    post = Post(tmp_path_factory.mktemp("post"))
    try:
        for subject, body in letters:
            subject = subject.replace("\n", " ").encode()
            kind = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
            post.append(data=b"Subject: " + subject + b"\r\n" + kind + body.replace("\n", "\r\n").encode())
        view = post.select()
        index = post.account._files.fulltext = Fulltext(post.path, by_default=True)
        assert sum(indexing.bring_up_to_date(post.account._files, index)) == len(letters)
        parts = [part for _, body in letters for part in (body[1:6], body[1:3], body[-2:], body.upper())]
        for needle in [*needles, *parts]:
            found(post, view, q.Text(needle))
            found(post, view, q.Body(needle))
            found(post, view, q.Not(q.Body(needle)))
    finally:
        post.close()


def test_a_message_may_leave_while_others_are_being_indexed(post, index, monkeypatch):
    monkeypatch.setattr(indexing, "BATCH", 1)
    post.append()
    for _ in range(2):
        post.foreign.deliver(MAIL)
    view = post.select()
    batches = indexing.bring_up_to_date(post.account._files, index[0])
    assert next(batches) == 1
    os.unlink(post.foreign.find(next(base for base in post.foreign.bases() if "elsewhere" not in base)))
    assert sum(batches) == 2
    post.run(view.refresh(expunge=True))
    assert knows(post, view, index) == list(view.uids) == [2, 3]
    assert found(post, view, q.Body("goodbye")) == [2, 3]
    build(post, index)
    assert found(post, view, q.Body("goodbye")) == [2, 3]


def test_a_message_that_cannot_be_read_keeps_no_other_from_being_indexed(post, index, monkeypatch):
    for _ in range(2):
        post.append()
    view = post.select()

    def whole(message, limit):
        if message.uid == 2:
            raise PermissionError(13, "Permission denied")
        return searchtext.whole(message, limit)

    monkeypatch.setattr(indexing, "whole", whole)
    build(post, index)
    assert knows(post, view, index) == [1]


def test_real_messages_are_found_alike_with_and_without_the_index(post, index, test_data):
    paths = sorted(path for path in (test_data / "mail-parser").rglob("*") if path.is_file())
    letters = [path.read_bytes() for path in paths[:: max(1, len(paths) // 100)]]
    post.append()
    for letter in letters:
        post.foreign.deliver(letter)
    view = post.select()
    assert build(post, index) == len(letters) + 1
    assert knows(post, view, index) == list(view.uids)
    texts = index[0].open(post.account._files.index.path, view.scope().key)
    said = [
        texts._said(document) for uid in view.uids for document in texts._row(fulltext._DOCUMENTS, *texts._key, uid)
    ]
    texts.close()
    needles = [text[at : at + 7].strip("\0") for text in said for at in (len(text) // 2, len(text) - 9) if at > 0]
    for needle in [*needles[::12], "THE", "E", "\n", "=?", "ü"]:
        found(post, view, q.Text(needle))
        found(post, view, q.Body(needle))
