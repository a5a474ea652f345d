"""Any bytes from other programs of this host: no exception, bounded state, and the end of it closes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.dovecotauth.events import Auth, Continue
from posthouse.protocols.dovecotauth.server import DovecotAuthEngine
from posthouse.protocols.engine import Pause
from posthouse.protocols.saslauthd.server import SaslauthdEngine
from posthouse.protocols.socketmap.server import SocketmapEngine
from posthouse.protocols.tcptable.server import TcpTableEngine

WORDS = [
    b"VERSION\t1\t1\n", b"CPID\t1\n", b"AUTH\t", b"CONT\t", b"CANCEL\t", b"1", b"2", b"\t", b"PLAIN", b"resp=",
    b"AA==", b"=", b"secured", b"rip=::1", b"\n", b"\n", b"\x01", b"\0", b"\xff", b"x" * 9000, b"get ", b"%4", b"%00",
    b"3:a b,", b":", b",", b"9999:", b"\0\3", b"\0\0", b"\x10\0",
]  # fmt: skip
PIECES = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=20)), max_size=60)


@given(PIECES, st.randoms())
@settings(max_examples=100, deadline=None)
def test_any_bytes_on_the_auth_socket_are_survived(pieces, random):
    engine = DovecotAuthEngine(("PLAIN",), process_id=1, connection_id=1, cookie="0" * 32)
    for piece in [*([b"VERSION\t1\t1\nCPID\t1\n"] * random.randint(0, 1)), *pieces, b""]:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Pause):
            if isinstance(event, Auth | Continue):
                answer = random.choice([engine.challenge, engine.accept, engine.refuse, None])
                if answer is not None:
                    answer(
                        *{engine.refuse: (event.id,), engine.accept: (event.id, "a\tb")}.get(answer, (event.id, b"x"))
                    )
        assert engine.data_to_send().count(b"\n") < 10_000
    assert engine.closed


@given(PIECES, st.sampled_from([SaslauthdEngine, SocketmapEngine, lambda: TcpTableEngine("virtual")]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_to_those_who_answer_one_after_the_other_are_survived(pieces, make):
    engine = make()
    for number, piece in enumerate([*pieces, b""]):
        engine.receive(piece)
        while not isinstance(engine.next_event(), Pause):
            if isinstance(engine, SaslauthdEngine):
                engine.refuse("no")
            else:
                (engine.not_found, lambda: engine.found("é\n"), lambda: engine.temporary("x"))[number % 3]()
    engine.data_to_send()
    assert engine.closed
