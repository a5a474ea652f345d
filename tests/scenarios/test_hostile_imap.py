"""IMAP of a whole server under attack, before and after login."""

import random

import pytest
from tests.hostile import MEGABYTE, Client, running, tree, unharmed

BLOCK = b"x" * MEGABYTE
SELECTED = b"i1 LOGIN alice@example.test secret\r\ni2 SELECT INBOX\r\n"
MESSAGE = b"Subject: hello\r\nX-A: b\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    for server in running(tmp_path_factory.mktemp("imap"), f"[imap]\nmax_append_bytes = {MEGABYTE}\n"):
        with Client(server, "imap") as client:
            client.imap("LOGIN alice@example.test secret")
            client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(MESSAGE), MESSAGE))
            assert b"a OK" in client.until(b"a ")
        yield server


def attack(target, *pieces, selected=True):
    """Send it all without waiting; the lines that come back, those of login and SELECT left out."""
    with unharmed(target), Client(target, "imap") as client:
        if selected:
            client.send(SELECTED)
            client.until(b"i2 ")
        return client.flood(pieces).splitlines()


def tagged(said):
    """Tag and condition of each completion."""
    return [b" ".join(line.split()[:2]).decode() for line in said if not line.startswith((b"*", b"+"))]


@pytest.mark.parametrize("selected", [False, True])
def test_a_line_of_50_megabytes_is_bounded(target, selected):
    said = attack(target, b"a SEARCH TEXT ", *[BLOCK] * 50, b"\r\nb NOOP\r\n", selected=selected)
    assert tagged(said) in ([], ["a BAD", "b OK"])


def test_literals_that_claim_gigabytes_are_refused_before_they_come(target):
    sizes = [4_294_967_296, 4_294_967_295, 2**63, 2**64, 10**30]
    commands = [
        b"a%d SEARCH TEXT {%d}\r\nb%d APPEND INBOX {%d}\r\n" % (n, size, n, size) for n, size in enumerate(sizes)
    ]
    said = attack(target, *commands, b"c NOOP\r\n")
    assert tagged(said) == [word for n in range(5) for word in (f"a{n} BAD", f"b{n} NO")] + ["c OK"]
    assert not any(line.startswith(b"+") for line in said)


@pytest.mark.parametrize("command", [b"SEARCH TEXT", b"APPEND INBOX", b"NOOP", b"LOGIN"])
def test_literals_of_gigabytes_that_come_unasked_end_the_session(target, command):
    said = attack(target, b"a %b {4294967296+}\r\n" % command, *[BLOCK] * 20)
    assert tagged(said) in ([], ["a BAD"], ["a NO"])


@pytest.mark.parametrize("command", [b"SEARCH TEXT", b"APPEND INBOX", b"NOOP"])
def test_literals_of_megabytes_that_come_unasked_are_swallowed_and_hold_no_commands(target, command):
    inside = b"x DELETE INBOX\r\n" * (MEGABYTE // 16) * 4
    said = attack(target, b"a %b {%d+}\r\n" % (command, len(inside)), inside, b"\r\nb NOOP\r\n")
    assert tagged(said) in (["a BAD", "b OK"], ["a NO", "b OK"])


def test_1_megabyte_names_and_passwords_are_refused(target):
    megabyte = BLOCK[:1_000_000]
    said = attack(
        target,
        b"a LOGIN {1000000}\r\nb LOGIN {1000000+}\r\n" + megabyte + b" {1000000+}\r\n" + megabyte + b"\r\n",
        b"c LOGIN " + megabyte + b" " + megabyte + b'\r\nd LOGIN "' + megabyte + b'" x\r\ne LOGIN "\0" "\0"\r\n',
        b"f LOGIN {5+}\r\na\0b\0c {1+}\r\n\0\r\ng LOGIN \xff \xff\r\nh NOOP\r\n",
        selected=False,
    )
    assert tagged(said) == [f"{tag} BAD" for tag in "abcdefg"] + ["h OK"]


DEEP = [
    b"SEARCH " + b"(" * 10_000 + b"ALL" + b")" * 10_000,
    b"SEARCH " + b"NOT " * 10_000 + b"ALL",
    b"SEARCH " + b"OR " * 10_000 + b"ALL",
    b"SEARCH " + b"OR ALL " * 9_000 + b"ALL",
    b"FETCH 1 " + b"(" * 10_000 + b"FLAGS" + b")" * 10_000,
    b"STORE 1 FLAGS " + b"(" * 10_000,
    b"FETCH 1 BODY.PEEK[" + b".".join([b"1"] * 30_000) + b".MIME.X]",
    b"STATUS INBOX (" + b"MESSAGES (" * 5_000,
    b"ID (" + b'"a" "b" ' * 5_000 + b'"c" NIL)',
    b'LIST "" (' + b"(" * 10_000,
]


@pytest.mark.parametrize("command", DEEP, ids=lambda command: command[:14].decode())
def test_nesting_without_end_is_a_bad_command(target, command):
    assert tagged(attack(target, b"a " + command + b"\r\nb NOOP\r\n")) == ["a BAD", "b OK"]


BAD = [
    b"FETCH 1:4294967295 FLAGS",
    b"FETCH 0 FLAGS",
    b"FETCH 4294967296 FLAGS",
    b"UID FETCH 99999999999999999999 FLAGS",
    b"FETCH 1 BODY.PEEK[]<0.0>",
    b"FETCH 1 BODY.PEEK[]<99999999999.1>",
    b"FETCH 1 BODY.PEEK[0]",
    b"FETCH 1 BODY.PEEK[1.2",
    b"FETCH 1 BODY.PEEK[HEADER.FIELDS ({12+}\r\nA\r\nb LOGOUT\r\n)]",
    b'FETCH 1 BODY.PEEK[HEADER.FIELDS ("A\r\n")]',
    b"FETCH 1 BODY.PEEK[HEADER.FIELDS ()]",
    b"SELECT &AAA",
    b"SELECT &",
    b"CREATE &2AA-",
    b"CREATE \xc3\xa4",
    b"CREATE {3+}\r\na\0b",
    b"RENAME INBOX {2+}\r\n\0\0",
    b"APPEND INBOX (\\Bogus) {4+}\r\nabcd",
    b'APPEND INBOX "31-Feb-2024 00:00:00 +0000" {4+}\r\nabcd',
    b'APPEND INBOX "1-Jan-99999 00:00:00 +9999" {4+}\r\nabcd',
    b"APPEND INBOX () () {4+}\r\nabcd",
    b"APPEND INBOX abcd",
    b"STORE 1 FLAGS (\\Recent\\Seen)",
    b"STORE 1 FLAGS \x7f",
    b"SEARCH SINCE 99-Foo-2024",
    b"SEARCH KEYWORD (",
    b"SEARCH CHARSET",
    b"",
    b"\0\0\0",
    b"(((((",
    b"UID UID UID FETCH",
    b"STARTTLS x",
    b"IDLE x",
]  # fmt: skip


@pytest.mark.parametrize("command", BAD, ids=repr)
def test_what_makes_no_sense_is_bad_and_harms_nothing(target, command):
    said = tagged(attack(target, b"a " + command + b"\r\nb NOOP\r\n"))
    assert said[-1] == "b OK"
    assert len(said) >= 2 or command == b""
    assert all(word.endswith(("BAD", "NO")) for word in said[:-1])


@pytest.mark.parametrize("name", [b"../../etc", b"../x", b"/etc/passwd", b"a/../../b", b"..", b".", b"a..b", b".a"])
def test_mailbox_names_do_not_leave_the_mail_root(target, name):
    before = tree(target.directory)
    commands = [
        b'a CREATE "%b"', b'b SELECT "%b"', b'c DELETE "%b"', b'd RENAME INBOX "%b"', b'e RENAME "%b" y',
        b'f COPY 1 "%b"', b'g SUBSCRIBE "%b"', b'h STATUS "%b" (MESSAGES)', b'i APPEND "%b" {1+}\r\nx',
        b'j LIST "%b" *',
    ]  # fmt: skip
    said = attack(target, b"".join(command % name + b"\r\n" for command in commands))
    assert tagged(said)[-1] == "j OK"
    assert [word[2:] for word in tagged(said)[:-1]] == ["NO"] * 5 + ["BAD"] + ["NO"] * 3  # a failed SELECT leaves
    root = str((target.data / "mail" / "example.test" / "alice").relative_to(target.directory))
    made = {
        path
        for path in tree(target.directory) - before
        if not path.startswith((f"{root}/", "data/journal", "data/tmp"))
    }
    assert not made


def test_very_long_and_very_deep_mailbox_names_are_refused_with_no(target):
    names = [
        b".".join([b"a"] * 1000),
        b"x" * 300,
        b"x" * 60_000,
        b"&" + b"AOQ" * 900 + b"-",
        b".".join([b"b" * 100] * 50),
    ]
    said = attack(target, b"".join(b"a CREATE %b\r\n" % name for name in names), b'b LIST "" *\r\n')
    assert tagged(said)[-1] == "b OK"
    assert all(word in ("a NO", "a BAD") for word in tagged(said)[:-1])


def test_wildcards_without_end_are_linear(target):
    said = attack(target, b'a LIST "" ' + b"*%" * 15_000 + b"z\r\n" + b'b LIST "" "' + b"*a" * 15_000 + b'"\r\n')
    assert tagged(said) == ["a OK", "b OK"]


def test_10000_commands_are_answered_in_order(target):
    said = attack(target, b"".join(b"n%d NOOP\r\n" % number for number in range(10_000)))
    assert tagged(said) == [f"n{number} OK" for number in range(10_000)]


def test_large_sets_and_sections_are_answered(target):
    said = attack(
        target,
        b"a UID FETCH 1:4294967295 UID\r\n",
        b"b UID FETCH " + b"4294967295:1," * 4000 + b"* UID\r\n",
        b"c SEARCH UID " + b"1:4294967295," * 4000 + b"1\r\n",
        b"d FETCH 1 BODY.PEEK[" + b".".join([b"1"] * 1000) + b"]\r\n",
        b"e FETCH 1 BODY.PEEK[]<4294967295.4294967295>\r\n",
        b"f FETCH 1 (" + b" ".join(b"BODY.PEEK[]<%d.4294967295>" % n for n in range(2000)) + b")\r\n",
        b"g SEARCH " + b" ".join([b"TEXT abcdef"] * 5000) + b"\r\n",
        b"h SEARCH NOT " + b" NOT ".join([b"BODY abcdef"] * 3500) + b"\r\n",
    )
    completions = [line for line in said if line[:2] in [b"%c " % tag for tag in b"abcdefgh"]]
    assert tagged(completions) == [f"{tag} OK" for tag in "abcdefgh"]


@pytest.mark.parametrize(("size", "answer"), [(MEGABYTE + 1, "a NO"), (50 * MEGABYTE, "a NO"), (0, "a NO")])
def test_an_append_beyond_the_limit_is_refused_and_swallowed(target, size, answer):
    said = attack(
        target, b"a APPEND INBOX {%d+}\r\n" % size, *[BLOCK[:size]] * (size // MEGABYTE), BLOCK[: size % MEGABYTE]
    )
    assert tagged(said) in ([], [answer])


def test_garbage_while_idle_and_while_authenticating_ends_what_was_begun(target):
    noise = random.Random(1).randbytes(100_000)
    assert tagged(attack(target, b"a IDLE\r\nDONE NOT\r\nb NOOP\r\n")) == ["a BAD", "b OK"]
    assert tagged(attack(target, b"a IDLE\r\n", noise))[:1] in ([], ["a BAD"])
    assert tagged(attack(target, b"a AUTHENTICATE PLAIN\r\n", noise, selected=False))[:1] in ([], ["a BAD"])
    said = attack(target, b"a AUTHENTICATE PLAIN\r\n*\r\nb AUTHENTICATE X\r\nc NOOP\r\n", selected=False)
    assert tagged(said) == ["a BAD", "b NO", "c OK"]
    attack(target, random.Random(2).randbytes(MEGABYTE), selected=False)


def test_what_is_said_in_clear_after_starttls_is_never_heard(target):
    """RFC 3501 §6.2.1."""
    with unharmed(target), Client(target, "imap") as client:
        client.send(b"a STARTTLS\r\nb LOGIN alice@example.test secret\r\n")
        assert client.line().startswith(b"a OK")
        try:
            client.start_tls()
        except OSError:
            return  # what was pipelined was taken for TLS
        assert b"BAD" in client.imap("SELECT INBOX")
