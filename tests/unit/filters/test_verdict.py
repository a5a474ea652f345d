"""What verdicts come to under a policy."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.errors import Reply
from posthouse.filters.policy import ACTIONS, DEFAULT_POLICY, DIRECTIONS, KINDS, Policy, Rule, policy_of
from posthouse.filters.verdict import Action, Finding, Verdict, agreed, combine, unscanned

VIRUS = Verdict("clamav", Action.REJECT, findings=(Finding("virus", "Eicar-Test-Signature", "a.zip"),))
SCOPES = ("*", "a.test", "bob@a.test")


def policy(*rules: tuple[str, str, str, str], direction: str = "inbound") -> Policy:
    return policy_of((Rule(*rule) for rule in rules), SCOPES, direction)


def test_a_virus_is_refused_where_nobody_says_otherwise():
    outcome = combine([Verdict("rspamd", Action.JUNK, 7.5, ("R_SPF_FAIL",)), VIRUS], DEFAULT_POLICY)
    assert outcome.action == Action.REJECT
    assert outcome.reply == Reply(550, "5.7.1", "Message refused: virus Eicar-Test-Signature in a.zip")
    assert outcome.score == 7.5
    assert outcome.reasons == (
        "rspamd: R_SPF_FAIL",
        "clamav: virus Eicar-Test-Signature in a.zip: reject (default)",
    )


def test_the_narrower_policy_wins_and_says_whose_it_is():
    wide, domain = ("*", "*", "virus", "discard"), ("a.test", "inbound", "virus", "quarantine")
    assert combine([VIRUS], policy(wide)).action == Action.DISCARD
    outcome = combine([VIRUS], policy(domain, wide))
    assert outcome.action == Action.QUARANTINE
    assert outcome.reasons[-1].endswith("quarantine (a.test)")
    assert outcome.reply is None
    assert combine([VIRUS], policy(domain, wide, ("bob@a.test", "*", "virus", "accept"))).action == Action.ACCEPT
    assert combine([VIRUS], policy(domain, wide, direction="outbound")).action == Action.DISCARD
    assert combine([VIRUS], policy(("b.test", "*", "virus", "accept"))).action == Action.REJECT


def test_what_is_said_of_a_direction_counts_more_than_what_is_said_of_all_but_less_than_a_narrower_scope():
    both = [("a.test", "inbound", "virus", "tag"), ("a.test", "*", "virus", "hold")]
    assert combine([VIRUS], policy(*both)).action == Action.TAG
    assert combine([VIRUS], policy(*reversed(both))).action == Action.TAG
    assert combine([VIRUS], policy(*both, ("bob@a.test", "*", "virus", "quarantine"))).action == Action.QUARANTINE


def test_a_policy_speaks_of_findings_and_leaves_the_rest_to_the_filter():
    both = Verdict("scan", Action.QUARANTINE, findings=(Finding("virus", "x"), Finding("spam", "y")))
    assert combine([both], policy(("*", "*", "virus", "accept"))).action == Action.QUARANTINE
    assert combine([both], policy(("*", "*", "virus", "accept"), ("*", "*", "spam", "tag"))).action == Action.TAG
    said = Reply(554, "5.7.1", "Go away")
    outcome = combine([Verdict("milter", Action.REJECT, reply=said)], DEFAULT_POLICY)
    assert (outcome.action, outcome.reply) == (Action.REJECT, said)


def test_scores_add_up_and_the_highest_threshold_that_is_reached_counts():
    rules = [("*", "*", "tag_score", "2"), ("*", "*", "junk_score", "5"), ("a.test", "*", "reject_score", "10.5")]
    verdicts = [Verdict("one", score=3), Verdict("two", score=2.5)]
    outcome = combine(verdicts, policy(*rules))
    assert outcome.action == Action.JUNK
    assert outcome.reasons == ("score 5.5 is 5 or more: junk (*)",)
    assert combine([*verdicts, Verdict("three", score=5)], policy(*rules)).reply is not None
    assert combine(verdicts, policy(*rules, ("bob@a.test", "*", "junk_score", "off"))).action == Action.TAG
    assert combine([Verdict("one", score=-3)], policy(*rules)).action == Action.ACCEPT


def test_what_can_not_be_scanned_is_tagged_and_may_be_refused():
    outcome = combine([unscanned("clamav", "too large")], DEFAULT_POLICY)
    assert outcome.action == Action.TAG
    assert combine([unscanned("clamav", "too large")], policy(("*", "*", "unscanned", "reject"))).reply is not None


def test_what_is_bad_is_refused_though_another_filter_did_not_answer():
    failed = Verdict("rspamd", Action.DEFER, reasons=("did not answer: away",), has_failed=True)
    outcome = combine([failed], DEFAULT_POLICY)
    assert outcome.reply is not None
    assert outcome.reply.code == 451
    assert combine([failed, VIRUS], DEFAULT_POLICY).action == Action.REJECT


def test_a_scanner_that_answers_stands_in_for_one_that_does_not():
    failed = Verdict("one", Action.DEFER, reasons=("did not answer: away",), has_failed=True)
    clean = Verdict("two", reasons=("no virus",))
    both = frozenset({"one", "two"})
    weighed = agreed([failed, clean], both, all_must=False)
    assert combine(weighed, DEFAULT_POLICY).action == Action.ACCEPT
    assert "did not answer: away" in weighed[0].reasons
    assert combine(agreed([failed, clean], frozenset({"one"}), all_must=False), DEFAULT_POLICY).action == Action.DEFER
    assert combine(agreed([failed], both, all_must=False), DEFAULT_POLICY).action == Action.DEFER


def test_any_or_all_scanners_have_to_find_a_virus():
    clean, found = Verdict("one"), Verdict("two", Action.REJECT, findings=(Finding("virus", "x"),))
    both = frozenset({"one", "two"})
    assert combine(agreed([clean, found], both, all_must=False), DEFAULT_POLICY).action == Action.REJECT
    doubted = combine(agreed([clean, found], both, all_must=True), DEFAULT_POLICY)
    assert doubted.action == Action.TAG
    assert any("not every scanner agrees" in reason for reason in doubted.reasons)
    another = Verdict("one", Action.REJECT, findings=(Finding("virus", "y"),))
    assert combine(agreed([another, found], both, all_must=True), DEFAULT_POLICY).action == Action.REJECT
    failed = Verdict("one", Action.DEFER, has_failed=True)
    assert combine(agreed([failed, found], both, all_must=True), DEFAULT_POLICY).action == Action.REJECT


def test_a_row_that_makes_no_sense_changes_nothing():
    odd = policy(("*", "*", "virus", "explode"), ("*", "*", "nonsense", "1"), ("*", "sideways", "virus", "accept"))
    assert combine([VIRUS], odd).action == Action.REJECT


VERDICTS = st.builds(
    Verdict,
    filter=st.sampled_from(["one", "two"]),
    action=st.sampled_from(Action),
    findings=st.lists(st.builds(Finding, st.sampled_from(KINDS), st.text(max_size=300))).map(tuple),
    score=st.floats(-10, 10),
)
RULES = st.builds(
    Rule,
    st.sampled_from(SCOPES),
    st.sampled_from(("*", *DIRECTIONS)),
    st.sampled_from(KINDS),
    st.sampled_from(ACTIONS),
)


@given(st.lists(VERDICTS), st.lists(RULES))
def test_the_order_of_filters_and_rules_does_not_matter_to_the_action(verdicts, rules):
    chosen = {(rule.scope, rule.direction, rule.name): rule for rule in rules}.values()
    outcome = combine(verdicts, policy_of(chosen, SCOPES, "inbound"))
    other = combine(verdicts[::-1], policy_of(list(chosen)[::-1], SCOPES, "inbound"))
    assert outcome.action == other.action
    assert (outcome.reply is not None) == (outcome.action in (Action.DEFER, Action.REJECT))
    if outcome.reply is not None:
        assert outcome.reply.text.isprintable()
        assert outcome.reply.text.isascii()
        assert outcome.reply.code // 100 == (5 if outcome.action == Action.REJECT else 4)
