"""Any bytes on the POP3 port: no exception, bounded output, and deletions only by QUIT."""

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.engine import Pause
from posthouse.protocols.pop3.events import Apop, Auth, AuthResponse, OutputWaits, Quit, Retrieve, StartTls, UserPass
from posthouse.protocols.pop3.maildrop import Maildrop
from posthouse.protocols.pop3.server import OUTPUT_LIMIT, Pop3ServerEngine, ServerOptions

WORDS = [
    b"USER ", b"PASS ", b"APOP ", b"AUTH ",
    b"PLAIN ", b"STLS", b"UTF8", b"LANG ", b"CAPA", b"RETR ", b"TOP ", b"DELE ", b"LIST ", b"UIDL ",
    b"QUIT", b"RSET", b"1", b"2 ", b"99999999999999999999", b"-1", b"=", b"*", b"\r\n", b"\r\n", b"\n", b"\r", b"\0",
    b"\xff\xfe", b" ", b"x" * 9000,
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=20)), max_size=60), st.randoms())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_survived(pieces: list[bytes], random):
    engine = Pop3ServerEngine(
        ServerOptions("mail.example.test", starttls=True, auth=("PLAIN",), timestamp="<1@host>")
    )
    is_over = False
    for piece in [*pieces, b""]:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Pause):
            assert not is_over
            match event:
                case StartTls():
                    engine.accept_starttls()
                    engine.start_tls()
                case Auth() | AuthResponse() if random.random() < 0.5:
                    engine.auth_challenge(b"more")
                case UserPass() | Apop() | Auth() | AuthResponse():
                    if random.random() < 0.7:
                        engine.accept_login(Maildrop(1, (1, 2), (10, 20)))
                    else:
                        engine.refuse("No", "AUTH")
                case Retrieve():
                    engine.begin_message()
                    engine.message(piece)
                    engine.end_message()
                case Quit(deleted):
                    is_over = True
                    assert set(deleted) <= {0, 1}
                    engine.accept_quit()
                case OutputWaits():
                    engine.data_to_send()
                case _:
                    pass
        assert len(engine.data_to_send()) <= 2 * OUTPUT_LIMIT
    assert engine.closed
