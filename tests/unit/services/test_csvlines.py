"""CSV files that are not what they should be: which line, and what to do."""

import io

import pytest

from posthouse.services.changes import NotChanged
from posthouse.services.csvlines import Lines

HEADER = "email,name\n"


def problems(data):
    file = io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline="")
    lines = Lines(file, ("email", "name"), ("email",))
    return [(problem.number, problem.text) for _, wrong in lines.batches(1000) for problem in wrong]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_once_for_the_whole_file(encoding):
    with pytest.raises(NotChanged, match=r"not UTF-8: .* \('iconv -f UTF-16 -t UTF-8'\)$"):
        problems((HEADER + "a@a.test,b\n" * 100).encode(encoding))


def test_latin_1_is_told_for_the_lines_that_need_it():
    ((number, text),) = problems((HEADER + "a@a.test,Eve\na@a.test,Ève\n").encode("latin-1"))
    assert (number, "iconv -f LATIN1" in text) == (3, True)


def test_a_quote_that_nobody_closes_is_told_where_it_opens():
    data = HEADER + 'a@a.test,b\na@a.test,"b\n' + "a@a.test,b\n" * 100
    assert problems(data.encode()) == [(3, 'a quote (") opens here and is not closed before the end of the file')]
    with pytest.raises(NotChanged, match="line 1: a quote"):
        problems(b'email,"name\na@a.test,b\n')


def test_a_quote_that_swallows_too_much_is_told_where_it_opens_and_how_far_it_reaches():
    data = HEADER + 'a@a.test,"b\n' + "a@a.test,b\n" * 20_000
    ((number, text),) = problems(data.encode())
    assert number == 2
    assert text == (
        'a field has more than 131072 characters, it goes on to line 11918: close the quote (") that opens here'
    )
    ((number, text),) = problems((HEADER + "a@a.test," + 200_000 * "b" + "\na@a.test,b\n").encode())
    assert (number, text) == (2, "a field has more than 131072 characters: shorten it")


def test_lines_between_two_quotes_are_told_from_the_first_on():
    data = HEADER + 'a@a.test,"b\n' + "a@a.test,b\n" * 1000 + 'a@a.test,b"\na@a.test,b\n'
    ((number, text),) = problems(data.encode())
    assert (number, text) == (
        1003,
        'longer than 10000 characters; it begins in line 2: is a quote (") not closed there?',
    )
    ((number, text),) = problems((HEADER + 'a@a.test,"b" c\na@a.test,b\n').encode())
    assert (number, text.startswith("',' expected after '\"'")) == (2, True)
