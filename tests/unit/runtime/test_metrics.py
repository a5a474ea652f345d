"""runtime/metrics.py, runtime/exposition.py: read back by Prometheus' own parser."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from posthouse.base.errors import Refused, Reply
from posthouse.runtime import metrics
from posthouse.runtime.exposition import collect, render
from posthouse.runtime.measures import reason_of
from posthouse.runtime.metrics import Counter, Gauge, Histogram, Memory, Region

DONE = Counter("test_done_total", 'What is "done",\nwith a \\ in it.', ("kind", "result"))
OPEN = Gauge("test_open", "What is open.", ("kind",))
TOOK = Histogram("test_seconds", "How long.", ("kind",), bounds=(0.1, 1.0, 10.0))


@pytest.fixture(autouse=True)
def counted_elsewhere():
    """Each test counts in regions of its own."""
    before = metrics.regions()[0]
    yield
    metrics.count_in(before)


def fresh(size=8192):
    return Region(bytearray(size), size=size)


def scraped(*regions):
    """Every sample of ours, by its name and labels, as Prometheus' parser reads it."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(render(regions))
        for sample in family.samples
        if sample.name.startswith("test_")
    }


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["a", "b", 'quote " backslash \\ newline \n', "ümlaut", ""]),
        st.floats(0, 100, allow_nan=False),
    ),
    max_size=30,
)


@given(EVENTS)
def test_any_increments_in_several_regions_come_out_as_their_sums(events):
    regions = [fresh(), fresh(), fresh()]
    done, took = {}, {}
    for number, kind, value in events:
        metrics.count_in(regions[number])
        DONE.add(kind, "ok", amount=value)
        TOOK.observe(value, kind)
        done[kind] = done.get(kind, 0.0) + value
        took.setdefault(kind, []).append(value)
    found = scraped(*regions)
    for kind, total in done.items():
        assert found["test_done_total", ("kind", kind), ("result", "ok")] == pytest.approx(total)
        assert found["test_seconds_sum", ("kind", kind)] == pytest.approx(sum(took[kind]))
        assert found["test_seconds_count", ("kind", kind)] == len(took[kind])
        for bound in ("0.1", "1", "10", "+Inf"):
            up_to = sum(value <= float(bound) for value in took[kind])
            assert found["test_seconds_bucket", ("kind", kind), ("le", bound)] == up_to


def test_a_family_says_what_it_is_before_its_samples():
    region = fresh()
    metrics.count_in(region)
    DONE.add("x", "y")
    lines = render([region]).splitlines()
    at = lines.index("# TYPE test_done_total counter")
    assert lines[at - 1] == '# HELP test_done_total What is "done",\\nwith a \\\\ in it.'
    assert lines[at + 1] == 'test_done_total{kind="x",result="y"} 1'


def test_a_full_region_counts_what_did_not_fit_and_goes_on_with_what_it_has():
    region = fresh(1024)
    metrics.count_in(region)
    for number in range(100):
        DONE.add(f"k{number}", "ok")
        TOOK.observe(1.0, f"k{number}")
    DONE.add("k0", "ok")
    found = scraped(region)
    counted = sum(value for (name, *_), value in found.items() if name in ("test_done_total", "test_seconds_count"))
    assert 0 < region.dropped < 200
    assert counted + region.dropped == 201
    assert found["test_done_total", ("kind", "k0"), ("result", "ok")] == 2
    assert f"posthouse_metrics_dropped_total {region.dropped:.0f}" in render([region])


def test_who_takes_over_a_region_goes_on_from_its_counters_and_not_from_its_gauges():
    memory = Memory(3, 8192)

    def live(code):
        child = os.fork()
        if not child:
            region = memory.claim()
            metrics.count_in(region)
            code()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    def work():
        DONE.add("a", "ok")
        OPEN.add("a", amount=5)
        TOOK.observe(0.5, "a")

    live(work)
    live(work)
    found = scraped(*memory.regions())
    assert found["test_done_total", ("kind", "a"), ("result", "ok")] == 2
    assert found["test_seconds_count", ("kind", "a")] == 2
    assert found["test_open", ("kind", "a")] == 0  # nobody lives that has anything open
    assert len(list(memory.regions()[1].records())) == 0  # the second had the first one's


def test_processes_that_live_together_have_regions_of_their_own():
    memory = Memory(2, 8192)
    told, tell = os.pipe()
    end, begin = os.pipe()
    child = os.fork()
    if not child:
        metrics.count_in(memory.claim())
        OPEN.set(3, "child")
        os.write(tell, b"x")
        os.read(end, 1)
        os._exit(0)
    os.read(told, 1)
    mine = memory.claim()
    metrics.count_in(mine)
    OPEN.set(4, "me")
    assert mine is memory.regions()[1]
    found = scraped(*memory.regions())
    assert (found["test_open", ("kind", "child")], found["test_open", ("kind", "me")]) == (3, 4)
    os.write(begin, b"x")
    os.waitpid(child, 0)
    for descriptor in (told, tell, end, begin):
        os.close(descriptor)


def test_what_a_killed_process_had_half_written_is_not_seen_and_written_over():
    region = fresh()
    metrics.count_in(region)
    DONE.add("a", "ok")
    end = int(region.values[0])
    region.values[end], region.values[end + 1] = 12, 1e9  # a record whose end was never announced
    metrics.count_in(region)
    DONE.add("b", "ok")
    assert [record.labels for record in region.records()] == [("a", "ok"), ("b", "ok")]


@given(st.binary(max_size=400))
def test_a_region_of_rubbish_is_read_without_an_error(data):
    memory = bytearray(1024)
    memory[256 : 256 + len(data)] = data
    region = Region(memory, size=1024)
    region.values[0] = 128.0
    assert collect([region])


def test_wrong_labels_are_a_bug_that_shows():
    with pytest.raises(TypeError):
        DONE.add("only one")


def test_reasons_are_a_restrictions_word_or_a_usual_status():
    assert reason_of(Reply(550, "5.7.1", "no")) == "5.7.1"
    assert reason_of(Reply(550, "5.9.123", "a stranger's own")) == "other"
    error = Refused(Reply(554, "5.7.1", "listed"))
    error.word = "reject_rbl_client"
    assert reason_of(error.reply, error) == "reject_rbl_client"
