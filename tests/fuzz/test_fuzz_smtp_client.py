"""Any bytes at the SMTP client engine, cut anywhere."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.smtp_sessions import Client

from posthouse.message.envelope import Recipient
from posthouse.protocols.smtp.client_events import Broken, Finished, TransactionDone, TurnedAway
from posthouse.protocols.smtp.transaction import TransactionRequest

REQUEST = TransactionRequest("a@b", (Recipient("c@d"), Recipient("e@f")), size=5)
ANSWERS = [
    b"220 mx\r\n", b"250 Ok\r\n", b"250 2.1.0 Ok\r\n", b"250-mx\r\n250-SIZE 100\r\n250 PIPELINING\r\n",
    b"250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n", b"354 Go\r\n", b"550 5.1.1 No\r\n", b"450 4.2.1 Later\r\n",
    b"421 4.3.2 Bye\r\n", b"221 Bye\r\n", b"334 eA==\r\n", b"334 ?\r\n", b"235 Ok\r\n", b"250-\r\n", b"250\r\n",
    b"999 x\r\n", b"\r\n", b"\n", b"\xff", b"x" * 3000,
]  # fmt: skip
ordinary = st.lists(st.sampled_from(ANSWERS[:8]), max_size=20).map(lambda answers: b"220 mx\r\n" + b"".join(answers))
streams = st.one_of(
    ordinary,
    st.lists(st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=8)), max_size=20).map(b"".join),
    st.binary(max_size=200),
)


def fresh(lmtp: bool, chunking: bool) -> Client:
    return Client([(REQUEST, [b"one\n.", b"\r", b"\n..two"])] * 2, lmtp=lmtp, chunking=chunking)


@given(
    stream=streams, places=st.lists(st.integers(0, 10_000), max_size=20), lmtp=st.booleans(), chunking=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_events_and_output_do_not_depend_on_how_replies_are_cut(
    stream: bytes, places: list[int], lmtp: bool, chunking: bool
) -> None:
    whole, pieces = fresh(lmtp, chunking), fresh(lmtp, chunking)
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    said = whole.hear(*([stream] if stream else []), b"")
    assert pieces.hear(*[stream[a:b] for a, b in pairwise(borders)], b"") == said
    assert pieces.events == whole.events


@given(stream=streams, lmtp=st.booleans(), chunking=st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_session_ends_and_every_transaction_has_its_outcome(stream: bytes, lmtp: bool, chunking: bool) -> None:
    client = fresh(lmtp, chunking)
    said = client.hear(*([stream] if stream else []), b"")
    assert isinstance(client.events[-1], Broken | TurnedAway | Finished)
    assert client.engine.closed
    begun = 2 - len(client.pending)
    assert sum(isinstance(event, TransactionDone) for event in client.events) == begun
    assert all(len(outcome) == 2 for outcome in client.outcomes)
    assert b"\n" not in said.replace(b"\r\n", b"")
    assert b"\r" not in said.replace(b"\r\n", b"")
