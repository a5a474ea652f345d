"""Any bytes at all: the IMAP engine neither raises nor stalls, and answers in whole lines."""

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.mime import scan
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.imap import commands
from posthouse.protocols.imap.commands import AppendStart
from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.engine import ImapServerEngine
from posthouse.protocols.imap.events import CatenateUrl, CommandAborted, LiteralChunk, MessageStart
from posthouse.protocols.imap.parser import PARSERS
from posthouse.protocols.imap.render import ok
from posthouse.protocols.imap.states import Limits, State
from posthouse.protocols.imap.structure import bodystructure_bytes, envelope_bytes

WORDS = [
    *PARSERS, b"APPEND", b"INBOX", b"(", b")", b"[", b"]", b'"', b"\\", b"{3}", b"{3+}", b"{99999999999+}", b"\r\n",
    b" ", b" ", b" ", b"*", b"1:*", b"4294967295", b"\\Seen", b"BODY", b"BODY[", b"HEADER.FIELDS", b"<1.2>", b"NOT",
    b"OR", b"CHARSET", b"UTF-8", b"&AGE-", b"\0", b"\xff", b"\n", b"a1", b"+", b"%", b"DONE", b"FLAGS", b"UID ",
    b"CATENATE (", b"URL /x", b" TEXT {3+}\r\nabc", b"REPLACE 1 ",
]  # fmt: skip

tokens = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=6)), max_size=40).map(b"".join)


@given(st.lists(tokens, max_size=6), st.sampled_from([State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED]))
@settings(max_examples=100, deadline=None)
def test_any_bytes_get_whole_lines_for_an_answer(chunks: list[bytes], state: State):
    engine = ImapServerEngine(Limits(max_line_bytes=200, max_command_bytes=400, max_append_bytes=50))
    engine.state = state
    output = b""
    for chunk in [*chunks, b""]:
        engine.receive(chunk)
        while (event := engine.next_event()) is not NEED_DATA:
            assert not isinstance(event, Pause)
            match event:
                case AppendStart():
                    engine.accept_literal()
                case commands.Idle():
                    engine.accept_idle()
                case commands.Authenticate():
                    engine.auth_challenge(b"")
                case LiteralChunk() | MessageStart() | CatenateUrl() | CommandAborted():
                    pass
                case _:
                    engine.complete(ok("done"))
        output += engine.data_to_send()
    assert engine.closed
    assert not output or output.endswith(b"\r\n")
    assert output.isascii()


@given(st.sampled_from(sorted(PARSERS)), tokens)
@settings(max_examples=100, deadline=None)
def test_any_arguments_are_parsed_or_refused(name: bytes, arguments: bytes):
    cursor = Cursor(b" " + arguments)
    try:
        PARSERS[name](b"t", cursor)
    except BadCommandError:
        return
    assert cursor.position <= len(cursor.data)


@given(st.binary(max_size=400) | tokens)
@settings(max_examples=100, deadline=None)
def test_any_message_has_an_envelope_and_a_structure(message: bytes):
    structure = bodystructure_bytes(scan(message), True, lambda start, end: message[start:end])
    for shown in (envelope_bytes(message), structure):
        assert shown[:1] + shown[-1:] == b"()"
        assert b"\0" not in shown
