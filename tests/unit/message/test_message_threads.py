"""Base subjects, collation and threads: RFC 5256, RFC 5051."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import threads
from posthouse.message.casemap import casemap
from posthouse.message.digest import MAX_REFERENCES, Digest, digest
from posthouse.message.subject import base_subject
from posthouse.message.threads import Node, Threaded


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("hello", "hello", False),
        ("Re: hello", "hello", True),
        ("re  : FWD: fw: hello", "hello", True),
        ("Re[2]: hello", "hello", True),
        ("[list] Re: [list] hello", "hello", True),
        ("[one] [two] hello", "hello", False),
        ("[one] [two]", "[two]", False),
        ("[only]", "[only]", False),
        ("hello (fwd) (FWD) ", "hello", True),
        ("[fwd: [Fwd: Re: hello (fwd)]]", "hello", True),
        ("[fwd: hello] more", "more", False),
        ("  two\t\tblanks ", "two blanks", False),
        ("Re:", "", True),
        ("(fwd)", "", True),
        ("[fwd:]", "", True),
        ("reply: hello", "reply: hello", False),
        ("Re hello", "Re hello", False),
        ("[a [b] re: c", "[a [b] re: c", False),
    ],
)
def test_a_base_subject_has_no_marks_of_replies_and_lists(subject, base, is_reply):
    """RFC 5256 §2.1."""
    assert base_subject(subject) == (base, is_reply)


@given(
    st.lists(
        st.sampled_from(["re", "fwd", ":", " ", "[", "]", "(fwd)", "[fwd:", "x", "\t", "Fw", "[l]"]), max_size=30
    )
)
def test_the_base_of_a_base_subject_is_itself(words):
    base, _ = base_subject("".join(words))
    assert base_subject(base) == (base, False)


@pytest.mark.parametrize("piece", ["[a]", "re:", "(fwd)", "[fwd:", "]", " ", "[", "re[", "[a]re:"])
def test_a_long_subject_takes_no_long_time(piece):
    """Linear, not quadratic: 200,000 pieces would take hours."""
    base_subject(piece * 200_000)
    base_subject(piece * 200_000 + "x")


def test_texts_are_compared_without_case_and_composition():
    """RFC 5051."""
    assert casemap("hello Ü ǆ") == casemap("HELLO u\u0308 Ǆ")
    assert casemap("Straße") == "STRAßE"  # no special casing: simple titlecase only
    assert casemap("ﬁ") == "fi"


@given(st.text())
def test_casemapped_text_can_be_encoded_and_contains_what_the_text_contains(text):
    casemap(text).encode("utf-8")
    assert casemap(text) == casemap(unicodedata.normalize("NFC", text)) or not unicodedata.is_normalized("NFC", text)
    assert casemap(text[1:3]) in casemap(text)


def test_a_digest_has_what_is_compared():
    """RFC 5256 §2.2, §3; RFC 5957 §3."""
    made = digest(
        b"From: =?utf-8?q?J=C3=B6rg?= <J.Doe@example.org>\r\nTo: friends: a@b.c, d@e.f;\r\nCc: bare@example.org\r\n"
        b"Date: Mon, 5 Jan 2026 23:30:00 -0800\r\nSubject: Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b'Message-ID: <"01KF8JCEOCBS0045PS"@xxx.yyy.com>\r\nReferences: <a@x> - <b@x>\r\nIn-Reply-To: <c@x>\r\n\r\n'
    )
    assert made.sent == 1_767_684_600
    assert (made.base_subject, made.is_reply) == (casemap("Grüße"), True)
    assert (made.from_box, made.from_name) == ("J.DOE", casemap("Jörg"))
    assert (made.to_box, made.to_name) == ("FRIENDS", "FRIENDS")
    assert (made.cc_box, made.bcc) == ("BARE", None)
    assert made.message_id == b"01KF8JCEOCBS0045PS@xxx.yyy.com"
    assert made.references == b"a@x b@x"
    assert digest(b"In-Reply-To: <c@x> <d@x>\r\n\r\n").references == b"c@x"


@given(st.binary(max_size=300))
def test_any_header_has_a_digest(data):
    assert isinstance(digest(b"Subject: " + data + b"\r\nFrom: " + data + b"\r\nReferences: " + data), Digest)


def test_references_without_end_are_cut():
    made = digest(b"References:" + b"\r\n <%d@x>" * 100_000 % tuple(range(100_000)) + b"\r\n\r\n")
    assert len(made.references.split()) == MAX_REFERENCES


def shape(roots: list[Node]) -> list:
    """Nested lists; None is a message that is only spoken of."""
    return [[node.uid or None, *shape(node.children)] for node in roots]


def mail(
    uid: int, name: bytes = b"", references: bytes = b"", subject: str = "", *, reply: bool = False, sent: int = 0
):
    return Threaded(uid, sent or uid, subject, reply, name, references)


def test_threads_follow_references():
    """RFC 5256 §3: a missing message holds its children together, though not a single one."""
    messages = [
        mail(1, b"a"), mail(2, b"b", b"a"), mail(3, b"c", b"a b"), mail(4, b"d", b"gone"), mail(5, b"e", b"gone"),
        mail(6, b"f", b"lost"),
    ]  # fmt: skip
    assert shape(threads.refs(messages)) == [[1, [2, [3]]], [None, [4], [5]], [6]]


def test_threads_come_by_their_newest_message():
    """REFS as Dovecot has it: an old thread that was answered today is the last."""
    messages = [mail(1, b"a", sent=1), mail(2, b"b", sent=5), mail(3, b"c", b"a", sent=9), mail(4, b"d", sent=7)]
    assert shape(threads.refs(messages)) == [[2], [4], [1, [3]]]


def test_threads_of_one_subject_are_joined():
    """RFC 5256 §3, REFERENCES step 5."""
    messages = [
        mail(1, subject="x"), mail(2, subject="x", reply=True), mail(3, subject="y"), mail(4, subject="y"),
        mail(5, subject="z", reply=True), mail(6, subject="z"), mail(7), mail(8),
    ]  # fmt: skip
    assert shape(threads.by_references(messages)) == [
        [1, [2]], [None, [3], [4]], [6, [5]], [7], [8],
    ]  # fmt: skip


def test_subjects_alone_make_flat_threads():
    """RFC 5256 §3, ORDEREDSUBJECT."""
    messages = [
        mail(1, subject="x", sent=5),
        mail(2, subject="y", sent=2),
        mail(3, subject="x", sent=3),
        mail(4, subject="x"),
    ]
    assert shape(threads.ordered_subject(messages)) == [[2], [3, [4], [1]]]


IDS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b""])


@given(
    st.lists(st.tuples(IDS, st.lists(IDS.filter(bool), max_size=5), st.sampled_from(["", "s", "t"]), st.booleans()))
)
def test_every_message_is_in_one_thread_whatever_it_refers_to(described):
    messages = [
        mail(uid, name, b" ".join(references), subject, reply=reply)
        for uid, (name, references, subject, reply) in enumerate(described, 1)
    ]
    for arrange in (threads.by_references, threads.refs, threads.ordered_subject):
        pending, seen = arrange(messages), []
        for node in pending:
            seen.append(node.uid)
            pending += node.children
            assert len(pending) < 1000, "a loop"
            assert node.uid or len(node.children) > 1 or arrange is not threads.refs
        assert sorted(filter(None, seen)) == [message.uid for message in messages]


def test_long_chains_and_circles_are_bounded():
    """No recursion, and no climbing without end."""
    chain = [mail(uid, b"%d" % uid, b"%d" % (uid - 1)) for uid in range(1, 20_000)]
    assert len(threads.by_references(chain)) == 1
    backwards = [mail(uid, b"%d" % uid, b"%d" % (uid + 1)) for uid in range(1, 20_000)]
    assert len(threads.refs(backwards)) == 1
    circle = [mail(uid, b"%d" % uid, b"%d" % (uid % 1000 + 1)) for uid in range(1, 1001)]
    assert sum(1 for _ in threads.refs(circle)) >= 1
    many = [mail(1, b"x", b" ".join(b"%d" % n for n in range(100_000)))]
    assert shape(threads.refs(many)) == [[1]]
