"""Number ranges of searches and fetches."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.query import STAR, resolve_ranges

NUMBER = st.integers(0, 30)


def test_a_range_to_star_includes_the_largest_even_where_it_begins_past_it():
    """RFC 3501 §9, seq-range: 559:* always includes the last message."""
    assert resolve_ranges([(559, STAR)], 10) == ((10, 559),)
    assert resolve_ranges([(STAR, STAR), (2, 1)], 10) == ((1, 2), (10, 10))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=8), st.integers(1, 40))
def test_resolved_ranges_are_disjoint_ascending_and_hold_the_same_numbers(ranges, largest):
    resolved = resolve_ranges(ranges, largest)
    wanted = {
        n for a, b in ranges for n in range(min(a or largest, b or largest), max(a or largest, b or largest) + 1)
    }
    assert {n for low, high in resolved for n in range(low, high + 1)} == wanted
    assert all(low <= high for low, high in resolved)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(resolved))
