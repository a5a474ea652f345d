"""FUZZY (RFC 6203)."""

from posthouse.message import fuzzy
from posthouse.message.query import All, And, Body, Fuzzy, HasFlag, Header, Not, Or, Text, asks_modseq


def test_a_text_is_looked_for_by_its_words_and_a_long_one_by_its_beginning():
    assert fuzzy.exact(Fuzzy(Header("Subject", "IMAP break"))) == And(
        (Header("Subject", "IMAP"), Header("Subject", "break"))
    )
    assert fuzzy.exact(Fuzzy(Body("invoices"))) == And((Body("invoic"),))
    assert fuzzy.exact(Fuzzy(Text("  "))) == Text("  ")


def test_only_what_stands_behind_fuzzy_and_is_wanted_is_made_wider():
    """RFC 6203 §3: ``FUZZY SUBJECT work FROM user@example.com`` is fuzzy in its subject alone."""
    sender = Header("From", "user@example.com and more")
    wider = And((Text("a"), Text("b")))
    assert fuzzy.exact(And((Fuzzy(Text("a b")), sender))) == And((wider, sender))
    assert fuzzy.exact(Fuzzy(Or(Text("a b"), HasFlag("x")))) == Or(wider, HasFlag("x"))
    assert fuzzy.exact(Fuzzy(Not(Text("a b")))) == Not(Text("a b"))
    assert fuzzy.exact(Not(Fuzzy(Text("a b")))) == Not(wider)
    assert fuzzy.exact(Fuzzy(Fuzzy(Text("a b")))) == wider
    assert fuzzy.exact(All()) == All()


def test_the_texts_that_count_for_scores_are_few():
    key = Fuzzy(And(tuple(Text(str(number)) for number in range(5_000))))
    assert len(fuzzy.texts(key)) == fuzzy.MOST_SCORED
    assert fuzzy.texts(And((Text("a"), Or(Fuzzy(Text("b")), Fuzzy(Not(Text("c"))))))) == [Text("b")]


def test_where_something_is_fuzzy_is_seen_at_any_depth():
    assert fuzzy.is_fuzzy(Not(Or(All(), And((Fuzzy(All()),)))))
    assert not fuzzy.is_fuzzy(Not(Or(All(), And((All(),)))))
    assert not asks_modseq(Fuzzy(All()))
