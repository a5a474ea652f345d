"""SEARCH=FUZZY on the wire (RFC 6203)."""

import pytest

SUBJECTS = (b"IMAP is broken", b"holiday", b"broken IMAP", b"IMAP broken again", b"broken SMTP")


@pytest.fixture
def inbox(client):
    for subject in SUBJECTS:
        client.append(b"Subject: %b\r\nFrom: user@example.com\r\n\r\nAbout IMAP break.\r\n" % subject)
    client.ok("SELECT INBOX")
    return client


def test_words_are_found_in_any_order(inbox):
    assert inbox.ok('SEARCH SUBJECT "IMAP broken"') == [b"* SEARCH 4\r\n"]
    assert inbox.ok('SEARCH FUZZY (SUBJECT "IMAP broken")') == [b"* SEARCH 1 3 4\r\n"]
    assert inbox.ok("SEARCH FUZZY SUBJECT holidays FROM user@example.com") == [b"* SEARCH 2\r\n"]
    assert inbox.ok("UID SEARCH FUZZY FLAGGED") == [b"* SEARCH\r\n"]


def test_results_come_with_their_relevancy(inbox):
    """RFC 6203 §4: in the order of the result, from 1 to 100."""
    (response,) = inbox.ok('SEARCH RETURN (RELEVANCY ALL) FUZZY SUBJECT "IMAP broken"')
    assert response.split(b")", 1)[1] == b" ALL 1,3:4 RELEVANCY (1 1 100)\r\n"
    (response,) = inbox.ok('SEARCH RETURN (RELEVANCY PARTIAL 2:9 COUNT) FUZZY TEXT "IMAP broken"')
    assert response.split(b")", 1)[1] == b" COUNT 4 PARTIAL (2:9 3:5) RELEVANCY (1 100 1)\r\n"
    (response,) = inbox.ok("SEARCH RETURN (RELEVANCY ALL) FUZZY ALL")
    assert response.split(b")", 1)[1] == b" ALL 1:5 RELEVANCY (100 100 100 100 100)\r\n"
    (response,) = inbox.ok("SEARCH RETURN (RELEVANCY COUNT) FUZZY TEXT nowhere")
    assert response.split(b")", 1)[1] == b" COUNT 0\r\n"


def test_the_most_relevant_is_sorted_to_the_front(inbox):
    """RFC 6203 §6."""
    assert inbox.ok('SORT (RELEVANCY) UTF-8 FUZZY SUBJECT "IMAP broken"') == [b"* SORT 4 1 3\r\n"]
    assert inbox.ok('SORT (REVERSE RELEVANCY SUBJECT) UTF-8 FUZZY SUBJECT "IMAP broken"') == [b"* SORT 3 1 4\r\n"]
    assert inbox.ok("SORT (RELEVANCY) UTF-8 FUZZY SUBJECT nowhere") == [b"* SORT\r\n"]


def test_there_is_no_relevancy_without_fuzzy(inbox):
    assert inbox.refused("SEARCH RETURN (RELEVANCY) ALL").startswith(b"BAD")
    assert inbox.refused("SORT (RELEVANCY) UTF-8 ALL").startswith(b"BAD")
    assert inbox.refused("SORT RETURN (RELEVANCY) (DATE) UTF-8 ALL").startswith(b"BAD")
