"""Commands as RFC 3501's examples and real clients send them, and what is refused."""

from datetime import date, datetime, timedelta, timezone

import pytest

from posthouse.message import query
from posthouse.protocols.imap import commands
from posthouse.protocols.imap.appending import AppendReader
from posthouse.protocols.imap.commands import Attribute, Section
from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.parser import PARSERS, parse_name, parse_tag


def parse(line: bytes) -> commands.Command:
    cursor = Cursor(line)
    tag = parse_tag(cursor)
    command = PARSERS[parse_name(cursor)](tag, cursor)
    cursor.finish()
    return command


def section(text: bytes) -> Section:
    command = parse(b"a FETCH 1 " + text)
    assert isinstance(command, commands.Fetch)
    (item,) = command.items
    assert isinstance(item, Section)
    return item


def search(text: bytes) -> query.Query:
    command = parse(b"a SEARCH " + text)
    assert isinstance(command, commands.Search)
    return command.query


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"abcd CAPABILITY", commands.Capability(b"abcd")),
        (b"a002 NOOP", commands.Noop(b"a002")),
        (b"A023 LOGOUT", commands.Logout(b"A023")),
        (b"a001 LOGIN SMITH SESAME", commands.Login(b"a001", "SMITH", "SESAME")),
        (b'a001 LOGIN {5}\r\nSMITH "a\\"b\\\\c"', commands.Login(b"a001", "SMITH", 'a"b\\c')),
        (b"A142 SELECT inbox", commands.Select(b"A142", "INBOX", False)),
        (b"A932 EXAMINE blurdybloop", commands.Select(b"A932", "blurdybloop", True)),
        (b"A003 CREATE owatagusiam/", commands.Create(b"A003", "owatagusiam/")),
        (b"t3 CREATE MyDrafts (USE (\\drafts))", commands.Create(b"t3", "MyDrafts", "\\Drafts")),
        (b"A683 DELETE blurdybloop", commands.Delete(b"A683", "blurdybloop")),
        (b"A683 RENAME blurdybloop sarasoop", commands.Rename(b"A683", "blurdybloop", "sarasoop")),
        (b"A002 SUBSCRIBE #news.comp.mail.mime", commands.Subscribe(b"A002", "#news.comp.mail.mime", True)),
        (b'A101 LIST "" ""', commands.List(b"A101", "", ("",), False)),
        (b"A202 LIST ~/Mail/ %", commands.List(b"A202", "~/Mail/", ("%",), False)),
        (b'A002 LSUB "#news." "comp.mail.*"', commands.List(b"A002", "#news.", ("comp.mail.*",), True)),
        (
            b"A042 STATUS blurdybloop (UIDNEXT MESSAGES)",
            commands.Status(b"A042", "blurdybloop", (b"UIDNEXT", b"MESSAGES")),
        ),
        (b"FXXZ CHECK", commands.Check(b"FXXZ")),
        (b"A341 CLOSE", commands.Close(b"A341", True)),
        (b"A341 UNSELECT", commands.Close(b"A341", False)),
        (b"A202 EXPUNGE", commands.Expunge(b"A202")),
        (b"A101 UID EXPUNGE 3000:3002", commands.Expunge(b"A101", ((3000, 3002),))),
        (
            b"A003 STORE 2:4 +FLAGS (\\deleted)",
            commands.Store(b"A003", False, ((2, 4),), "add", False, frozenset({"\\Deleted"})),
        ),
        (
            b"A003 UID STORE *:4,7 -FLAGS.SILENT \\Seen $Work",
            commands.Store(b"A003", True, ((0, 4), (7, 7)), "remove", True, frozenset({"\\Seen", "$Work"})),
        ),
        (b"A003 STORE 1 FLAGS ()", commands.Store(b"A003", False, ((1, 1),), "replace", False, frozenset())),
        (b"A003 COPY 2:4 MEETING", commands.Copy(b"A003", False, ((2, 4),), "MEETING")),
        (b"a UID MOVE 42:69 foo", commands.Move(b"a", True, ((42, 69),), "foo")),
        (b"A AUTHENTICATE plain dGVzdA==", commands.Authenticate(b"A", "PLAIN", b"test")),
        (b"A AUTHENTICATE PLAIN =", commands.Authenticate(b"A", "PLAIN", b"")),
        (b"A AUTHENTICATE GSSAPI", commands.Authenticate(b"A", "GSSAPI", None)),
        (b'a023 ID ("name" "sodr" "os" NIL)', commands.Id(b"a023", ((b"name", b"sodr"), (b"os", None)))),
        (b"a042 ID NIL", commands.Id(b"a042", ())),
        (b"t1 ENABLE CONDSTORE x-good", commands.Enable(b"t1", (b"CONDSTORE", b"X-GOOD"))),
        (b"A003 NAMESPACE", commands.Namespace(b"A003")),
        (b"A002 IDLE", commands.Idle(b"A002")),
    ],
)
def test_a_command_is_read_as_the_rfcs_show_it(line: bytes, command: commands.Command):
    """RFC 3501 §6; RFC 2971, 4315, 4959, 5161, 6154, 6851."""
    assert parse(line) == command


@pytest.mark.parametrize(
    "line",
    [
        b"a NOOP extra",
        b"a LOGIN only",
        b"a LOGIN  two spaces",
        b"a SELECT",
        b'a SELECT "open',
        b'a SELECT "bad \\escape"',
        b"a SELECT {5}\r\nab\0cd",
        b"a SELECT &Jjo!",
        b"a SELECT &AAA-",
        b'a SELECT "caf\xc3\xa9"',
        b"a STATUS x ()",
        b"a STATUS x (COLOUR)",
        b"a FETCH 0 FLAGS",
        b"a FETCH 4294967296 FLAGS",
        b"a FETCH 1: FLAGS",
        b"a FETCH 1 ()",
        b"a FETCH 1 (FLAGS",
        b"a FETCH 1 (FLAGS ALL)",
        b"a FETCH 1 BODY[MIME]",
        b"a FETCH 1 BODY[0]",
        b"a FETCH 1 BODY[1.]",
        b"a FETCH 1 BODY[1.0]",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]",
        b"a FETCH 1 BODY[]<0.0>",
        b"a FETCH 1 BODY[HEADER.FIELDS ({3}\r\n\r\n1)]",
        b"a STORE 1 FLAGS (\\Recent)",
        b"a STORE 1 FLAGS (\\Bogus)",
        b"a STORE 1 COLOUR (red)",
        b"a SEARCH",
        b"a SEARCH BEFORE 31-Feb-2024",
        b"a SEARCH NOT",
        b"a SEARCH (SEEN",
        b"a SEARCH LARGER 9999999999999999999",
        b'a SEARCH SUBJECT "\xff\xfe"',
        b"a AUTHENTICATE PLAIN !!!!",
        b"a CREATE x (USE (Nonsense))",
        b"+ NOOP",
        b" NOOP",
        b"a ID (" + b" ".join([b'"x" NIL'] * 31) + b")",
    ],
)
def test_what_the_grammar_does_not_have_is_refused(line: bytes):
    with pytest.raises(BadCommandError) as refusal:
        parse(line)
    assert refusal.value.completion.status == "BAD"


def test_append_is_read_up_to_its_literal():
    """RFC 3501 §6.3.11."""
    line = b'A003 APPEND saved-messages (\\Seen $New) " 7-Feb-1994 21:52:25 -0800" '
    reader = AppendReader(b"A003", b"APPEND")
    reader.read(Cursor(line, len(b"A003 APPEND")), 310)
    moment = datetime(1994, 2, 7, 21, 52, 25, tzinfo=timezone(timedelta(hours=-8)))
    flags = frozenset({"\\Seen", "$New"})
    assert [*reader.events] == [commands.AppendStart(b"A003", "saved-messages", flags, moment, 310)]


def test_fetch_items_keep_their_order_and_come_once():
    command = parse(b"A FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)] flags RFC822.SIZE)")
    assert isinstance(command, commands.Fetch)
    assert command.items[0] == Attribute("FLAGS")
    assert command.items[2] == Attribute("RFC822.SIZE")
    assert len(command.items) == 3


def test_macros_stand_for_lists():
    """RFC 3501 §6.4.5."""
    command = parse(b"A FETCH 1 full")
    assert isinstance(command, commands.Fetch)
    names = [item.name for item in command.items if isinstance(item, Attribute)]
    assert names == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"BODY[]", Section("", "", frozenset(), 0, None, False, b"BODY[]")),
        (b"BODY.PEEK[1.2]", Section("1.2", "", frozenset(), 0, None, True, b"BODY[1.2]")),
        (b"body[4.1.mime]", Section("4.1", "MIME", frozenset(), 0, None, False, b"BODY[4.1.MIME]")),
        (b"BODY[TEXT]<10.20>", Section("", "TEXT", frozenset(), 10, 20, False, b"BODY[TEXT]<10>")),
        (
            b'BODY.PEEK[3.HEADER.FIELDS.NOT (Date "From")]',
            Section(
                "3",
                "HEADER.FIELDS.NOT",
                frozenset({b"date", b"from"}),
                0,
                None,
                True,
                b"BODY[3.HEADER.FIELDS.NOT (Date From)]",
            ),
        ),
        (b"RFC822", Section("", "", frozenset(), 0, None, False, b"RFC822")),
        (b"RFC822.HEADER", Section("", "HEADER", frozenset(), 0, None, True, b"RFC822.HEADER")),
        (b"RFC822.TEXT", Section("", "TEXT", frozenset(), 0, None, False, b"RFC822.TEXT")),
    ],
)
def test_a_section_says_what_part_it_means(text: bytes, expected: Section):
    assert section(text) == expected


def test_search_keys_become_a_tree():
    """RFC 3501 §6.4.4, its first example, and a nested one."""
    assert search(b'FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"') == query.And(
        (
            query.HasFlag("\\Flagged"),
            query.Since(date(1994, 2, 1)),
            query.Not(query.Header("From", "Smith")),
        )
    )
    assert search(b"OR (1:3 UID *) UNKEYWORD $x") == query.Or(
        query.And((query.SequenceSet(((1, 3),)), query.UidSet(((0, 0),)))), query.Not(query.HasFlag("$x"))
    )
    assert search(b"NEW LARGER 5 HEADER Message-ID <x>") == query.And(
        (
            query.And((query.HasFlag("\\Recent"), query.Not(query.HasFlag("\\Seen")))),
            query.Larger(5),
            query.Header("Message-ID", "<x>"),
        )
    )


def test_search_texts_are_decoded_by_their_charset():
    assert search(b"CHARSET UTF-8 TEXT {6}\r\n\xc3\xa4\xc3\xb6\xc3\xbc") == query.Text("äöü")
    assert search(b'charset iso-8859-1 BODY "\xe4"') == query.Body("ä")


@pytest.mark.parametrize("opening", [b"(", b"NOT ", b"OR ALL "])
def test_search_keys_nested_too_deeply_are_refused(opening: bytes):
    """Bounded recursion, whatever a client sends."""
    with pytest.raises(BadCommandError):
        search(opening * 10_000 + b"ALL")


def test_a_password_is_not_in_the_text_form_of_its_command():
    assert "SESAME" not in repr(parse(b"a001 LOGIN SMITH SESAME"))


def test_what_a_search_returns_is_read():
    """RFC 4731 §3.1, RFC 5182 §2.1, RFC 9394 §3.1."""
    command = parse(b"a UID SEARCH RETURN (MIN COUNT) ALL")
    assert command == commands.Search(b"a", True, query.All(), commands.ReturnOptions(frozenset({b"MIN", b"COUNT"})))
    assert parse(b"a SEARCH return () 1").returns == commands.ReturnOptions(frozenset({b"ALL"}))
    assert parse(b"a SEARCH RETURN (PARTIAL -1:-100 SAVE) 1").returns == commands.ReturnOptions(
        frozenset({b"PARTIAL", b"SAVE"}), (-1, -100)
    )
    assert parse(b'a SEARCH CHARSET KLINGON TEXT "\xff"').is_charset_known is False


@pytest.mark.parametrize(
    "text",
    [
        b"RETURN (NONE) ALL",
        b"RETURN (ALL PARTIAL 1:2) ALL",
        b"RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        b"RETURN (PARTIAL -1:2) ALL",
        b"RETURN (PARTIAL 0:2) ALL",
        b"RETURN (PARTIAL 1:99999999999) ALL",
        b"RETURN (MIN",
        b"RETURN (MIN)",
        b"OLDER 0",
        b"YOUNGER -1",
        b"$,1",
    ],
)
def test_what_no_search_can_return_is_refused(text):
    with pytest.raises(BadCommandError):
        parse(b"a SEARCH " + text)


def test_the_kept_result_stands_where_a_set_may():
    """RFC 5182 §2.1."""
    assert search(b"$ SMALLER 4096") == query.And((query.SequenceSet(query.SAVED), query.Smaller(4096)))
    assert search(b"UID $") == query.UidSet(query.SAVED)
    assert parse(b"a UID EXPUNGE $").uids == query.SAVED
    assert parse(b"a MOVE $ Trash").ranges == query.SAVED


def test_ages_are_seconds():
    """RFC 5032 §2."""
    assert search(b"UNSEEN YOUNGER 259200") == query.And((query.Not(query.HasFlag("\\Seen")), query.Younger(259200)))
    assert search(b"OLDER 60") == query.Older(60)
