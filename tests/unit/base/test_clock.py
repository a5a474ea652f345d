"""The steady clock, whatever is done to the machine's."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.clock import FakeClock, SteadyClock


@given(st.lists(st.tuples(st.floats(0, 1e5), st.one_of(st.just(0.0), st.floats(-1e7, 1e7))), max_size=20))
def test_it_never_goes_faster_than_twice_and_is_right_again_in_the_end(steps):
    machine = FakeClock()
    told: list[float] = []
    steady = SteadyClock(machine, tell=told.append)
    for passed, jump in steps:
        before = steady.now()
        machine.advance(passed)
        machine.jump(jump)
        now = steady.now()
        assert now <= machine.now()
        assert (now - before).total_seconds() <= 2 * passed + 1e-5
    machine.advance(sum(abs(jump) for _, jump in steps))
    assert steady.now() == machine.now()
    assert len(told) == sum(abs(jump) > 60.0001 for _, jump in steps) or any(
        59.999 < abs(j) < 60.001 for _, j in steps
    )
