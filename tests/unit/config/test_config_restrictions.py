"""config/restrictions.py, and how a configuration that has them wrong is told."""

from pathlib import Path

import pytest

from posthouse.config.loader import ConfigError, load
from posthouse.config.restrictions import WORDS, DnsList, Restriction, parse_dns_list, parse_list, parse_restriction


def test_a_restriction_is_a_word_and_its_argument():
    assert parse_restriction("permit_mynetworks") == Restriction("permit_mynetworks")
    assert parse_restriction("reject_rbl_client zen.example=127.0.0.[2..11]") == Restriction(
        "reject_rbl_client", "zen.example=127.0.0.[2..11]"
    )
    assert parse_restriction("warn_if_reject reject") == Restriction("reject", only_warns=True)


def test_a_lone_warn_if_reject_is_for_the_next_one():
    assert parse_list(("warn_if_reject", "reject", "reject")) == (
        Restriction("reject", only_warns=True),
        Restriction("reject"),
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is no restriction"),
        ("reject_unknown_sender", "'reject_unknown_sender' is no restriction"),
        ("reject now", "'reject' takes no argument"),
        ("reject_rbl_client", "takes one argument"),
        ("reject_rbl_client localhost", "is no DNS list's domain"),
        ("reject_rbl_client a.example=127.0.0.[9..2]", "'9..2' is no range"),
        ("reject_rbl_client a.example=127.0.0", "is no answer of a DNS list"),
        ("reject_rbl_client a.example*3", "weights count for dnslists.sites only"),
        ("check_client_access hash:/etc/postfix/access", "without a type"),
        ("check_policy_service nowhere", "expected host:port"),
    ],
)
def test_what_is_wrong_names_the_word(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        parse_restriction(text)


def test_an_answer_of_a_dns_list_counts_where_each_octet_is_among_those_named():
    wanted = parse_dns_list("a.example=127.0.[0..1].[2..4;9]*-2")
    assert (wanted.site, wanted.weight) == ("a.example", -2)
    assert [wanted.matches(f"127.0.1.{last}") for last in (1, 2, 4, 5, 9)] == [False, True, True, False, True]
    assert DnsList("a.example").matches("127.9.9.9")
    assert not DnsList("a.example").matches("203.0.113.1")  # what answers so has been taken over


def test_a_wrong_word_is_told_with_its_line(tmp_path):
    path = tmp_path / "posthouse.toml"
    path.write_text('[smtp]\nmax_recipients = 5\nsender_restrictions = ["permit", "reject_unknown_sender"]\n')
    with pytest.raises(ConfigError) as error:
        load(str(path), environ={})
    (problem,) = error.value.problems
    assert problem.startswith(f"{path}:3: smtp.sender_restrictions: ")
    assert "'reject_unknown_sender' is no restriction" in problem


def test_weighted_lists_and_the_word_that_asks_them_need_each_other(tmp_path):
    path = tmp_path / "posthouse.toml"
    for text in ('[dnslists]\nsites = ["a.example*2"]\n', '[smtp]\nclient_restrictions = ["reject_dnslists"]\n'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="dnslists"):
            load(str(path), environ={})


def test_every_word_is_explained_to_the_operator():
    page = (Path(__file__).parents[3] / "docs" / "restrictions.md").read_text()
    names = {f"`{word}" for word in WORDS} - {f"`reject_rhsbl_{what}" for what in PARTS}
    assert [name for name in sorted(names) if name not in page] == []
    assert all(f"`_{what}`" in page for what in PARTS)


PARTS = ("reverse_client", "helo", "sender", "recipient")
