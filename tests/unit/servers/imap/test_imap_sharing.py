"""ACL and shared mailboxes with two accounts and more over real sockets (RFC 4314, RFC 8440).

Every command is tried without each right that it needs; and what may not be looked up answers as what isn't there.
"""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from posthouse.protocols.imap import rights

SHARED = "Shared/alice@example.test"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def add_account(live, email: str) -> None:
    user, _, domain = email.partition("@")
    with closing(sqlite3.connect(live.settings.path("posthouse.db"))) as database:
        database.execute(
            "INSERT INTO users (email, clear, maildir, quota) VALUES (?, 'secret', ?, '')",
            (email, f"{domain}/{user}/"),
        )
        database.commit()


@pytest.fixture
def alice(client):
    """With a mailbox Work that holds two messages."""
    client.ok("CREATE Work")
    client.append(MESSAGE, "Work")
    client.append(MESSAGE, "Work", "(\\Flagged \\Seen) ")
    return client


@pytest.fixture
def log_in(live, connect):
    def begin(email: str):
        one = connect(live, login=False)
        one.ok(f"LOGIN {email} secret")
        return one

    return begin


@pytest.fixture
def bob(log_in, alice):
    return log_in("bob@example.test")


def names(responses: list[bytes]) -> list[bytes]:
    return [line.rstrip().split(b" ")[-1] for line in responses if line.startswith((b"* LIST", b"* LSUB"))]


# The access control list itself.


def test_the_list_is_set_changed_and_told(alice):
    """RFC 4314 §3.1, §3.3, with the virtual rights of §2.1.1."""
    alice.ok("SETACL Work David lrswida")
    alice.ok("SETACL Work chris lrswi")
    alice.ok("SETACL Work chris +cda")
    alice.ok("SETACL Work byron lrswikda")
    alice.ok("SETACL Work byron -lr")
    assert alice.ok("GETACL Work") == [
        b"* ACL Work alice@example.test lrswipkxteacd david lrswitead chris lrswikxteacd byron swikteacd\r\n"
    ]
    alice.ok("DELETEACL Work chris")
    alice.ok('SETACL Work byron ""')
    assert alice.ok("GETACL Work") == [b"* ACL Work alice@example.test lrswipkxteacd david lrswitead\r\n"]


@pytest.mark.parametrize("wrong", ["lrQswicda", "lrqswicda", "+z", "l-r"])
def test_what_is_no_right_is_bad(alice, wrong: str):
    """RFC 4314 §3.1: A035 and A036."""
    assert alice.refused(f"SETACL Work John {wrong}").startswith(b"BAD")


@pytest.mark.parametrize("wrong", ['""', '"two words"', '"\x01"', b'"\xff"'])
def test_what_is_no_identifier_is_bad(alice, wrong: str | bytes):
    """RFC 4314 §3."""
    wrong = wrong.encode() if isinstance(wrong, str) else wrong
    assert alice.refused(b"SETACL Work %b lr" % wrong).startswith(b"BAD")
    assert alice.refused(b"LISTRIGHTS Work %b" % wrong).startswith(b"BAD")


def test_what_can_be_granted_is_told(alice):
    """RFC 4314 §3.4; the identifier comes back as it was given, and the owner's rights can't be taken away."""
    assert alice.ok("LISTRIGHTS Work Smith") == [b'* LISTRIGHTS Work Smith "" l r s w i p k x c t e d a\r\n']
    assert alice.ok("LISTRIGHTS Work ALICE@example.test") == [
        b"* LISTRIGHTS Work ALICE@example.test lrswipkxteacd\r\n"
    ]
    assert alice.refused("SETACL Work alice@example.test lr").startswith(b"NO [CANNOT]")
    assert alice.ok("MYRIGHTS Work") == [b"* MYRIGHTS Work lrswipkxteacd\r\n"]


def test_negative_rights_take_away(alice, bob):
    """RFC 4314 §2."""
    alice.ok("SETACL Work anyone lrs")
    alice.ok("SETACL Work -bob@example.test s")
    assert bob.ok(f"MYRIGHTS {SHARED}/Work") == [b"* MYRIGHTS Shared/alice@example.test/Work lr\r\n"]


def test_the_name_space_is_told(alice):
    """RFC 2342 §5."""
    assert alice.ok("NAMESPACE") == [b'* NAMESPACE (("" ".")) (("Shared/" "/")) NIL\r\n']


# Finding mailboxes.


def test_only_what_may_be_looked_up_is_listed(alice, bob):
    """RFC 4314 §4: LIST."""
    alice.ok("CREATE Secret")
    assert names(bob.ok('LIST "" *')) == [b"INBOX"]
    alice.ok("SETACL Work bob@example.test lr")
    alice.ok("SETACL Secret bob@example.test r")
    found = [b"Shared", b"Shared/alice@example.test", b"Shared/alice@example.test/Work"]
    assert names(bob.ok('LIST "" *')) == [b"INBOX", *found]
    assert names(bob.ok('LIST "" %')) == [b"INBOX", b"Shared"]
    assert names(bob.ok('LIST "Shared/" %')) == found[1:2]
    assert names(bob.ok(f'LIST "{SHARED}/" %')) == found[2:]
    assert bob.ok(f'LIST "" {SHARED}') == [b'* LIST (\\Noselect \\HasChildren) "/" Shared/alice@example.test\r\n']
    alice.ok("DELETEACL Work bob@example.test")
    assert names(bob.ok('LIST "" *')) == [b"INBOX"]


def test_levels_of_others_mailboxes_are_cut_by_slashes(alice, bob):
    alice.ok("CREATE Work.Deep.Down")
    alice.ok("SETACL Work.Deep.Down bob@example.test lr")
    assert names(bob.ok(f'LIST "{SHARED}/" *')) == [
        b"Shared/alice@example.test/Work",
        b"Shared/alice@example.test/Work/Deep",
        b"Shared/alice@example.test/Work/Deep/Down",
    ]
    bob.ok(f"EXAMINE {SHARED}/Work/Deep/Down")
    assert bob.refused(f"EXAMINE {SHARED}/Work.Deep.Down").startswith(b"NO [NONEXISTENT]")


def test_rights_come_with_the_list(alice, bob):
    """RFC 8440 §4."""
    alice.ok("SETACL Work bob@example.test lrs")
    lines = bob.ok('LIST "" * RETURN (MYRIGHTS)')
    assert [line for line in lines if line.startswith(b"* MYRIGHTS")] == [
        b"* MYRIGHTS INBOX lrswipkxteacd\r\n",
        b"* MYRIGHTS Shared/alice@example.test/Work lrs\r\n",
    ]


def test_others_mailboxes_are_subscribed_to_like_any_other(alice, bob):
    """RFC 3501 §6.3.6: the subscription stays when the mailbox can't be seen any more, and says nothing of it."""
    alice.ok("SETACL Work bob@example.test lr")
    bob.ok(f"SUBSCRIBE {SHARED}/Work")
    bob.ok("SUBSCRIBE Shared/nobody@nowhere.test/INBOX")
    both = [b"Shared/alice@example.test/Work", b"Shared/nobody@nowhere.test/INBOX"]
    assert names(bob.ok('LSUB "" "Shared/*"')) == both
    found = bob.ok('LIST (SUBSCRIBED) "" "Shared/*"')
    assert [b"\\NonExistent" in line for line in found] == [False, True]
    alice.ok("DELETEACL Work bob@example.test")
    found = bob.ok('LIST (SUBSCRIBED) "" "Shared/*"')
    assert [b"\\NonExistent" in line for line in found] == [True, True]
    bob.ok(f"UNSUBSCRIBE {SHARED}/Work")
    assert names(bob.ok('LSUB "" "Shared/*"')) == both[1:]
    assert bob.refused("SUBSCRIBE Shared//x").startswith(b"NO")


def test_anyone_is_everybody_in_the_owners_domain(live, alice, bob, log_in):
    """Domains are separate: what is there for anyone in one is nothing to somebody in another."""
    add_account(live, "carol@other.test")
    alice.ok("SETACL Work anyone lr")
    assert names(bob.ok('LIST "" "Shared/*"'))[-1] == b"Shared/alice@example.test/Work"
    carol = log_in("carol@other.test")
    assert names(carol.ok('LIST "" *')) == [b"INBOX"]
    assert carol.refused(f"EXAMINE {SHARED}/Work").startswith(b"NO [NONEXISTENT]")
    alice.ok("SETACL Work Carol@OTHER.test lr")
    carol.ok(f"EXAMINE {SHARED}/Work")


# No leak: every command, about what exists and may not be looked up, and about what doesn't exist.

COMMANDS = [
    "SELECT {}",
    "EXAMINE {}",
    "STATUS {} (MESSAGES)",
    "DELETE {}",
    "RENAME {} {}x",
    "CREATE {}/new",
    "APPEND {} {{4+}}\r\nabcd",
    "COPY 1 {}",
    "MOVE 1 {}",
    "UID COPY 1 {}",
    "GETACL {}",
    "SETACL {} bob@example.test lr",
    "DELETEACL {} bob@example.test",
    "LISTRIGHTS {} bob@example.test",
    "MYRIGHTS {}",
    "GETMETADATA {} /shared/comment",
    'SETMETADATA {} (/shared/comment "x")',
    "GETQUOTAROOT {}",
    'APPEND INBOX CATENATE (URL "/{};UIDVALIDITY=1/;UID=1")',
    'LIST "" {}',
    'LIST "" {} RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/comment))',
]


@pytest.mark.parametrize("granted", ["", "r", "swpte"])
def test_what_may_not_be_looked_up_answers_as_what_is_not_there(alice, bob, granted: str):
    """RFC 4314 §6; for ``r`` without ``l``, commands that need more than ``r``."""
    alice.ok("CREATE Open")
    alice.ok("SETACL Open bob@example.test lr")  # that alice shares something is known
    if granted:
        alice.ok(f"SETACL Work bob@example.test {granted}")
    bob.append(MESSAGE)
    paths = ("alice@example.test/Work", "alice@example.test/None", "none@example.test/Work", "none@none.test/Work")
    readable = ("SELECT", "EXAMINE", "STATUS", "MYRIGHTS", "GETQUOTAROOT", "APPEND INBOX") if granted == "r" else ()
    for command in COMMANDS:
        if command.startswith(readable or "-"):
            continue
        answers = set()
        for name in [f"Shared/{path}" for path in paths]:
            bob.ok("SELECT INBOX")
            untagged, tagged = bob.command(command.format(name, name))
            text = b"".join([*untagged, tagged]).replace(name.encode(), b"NAME")
            answers.add(text)
        assert len(answers) == 1, (command, answers)


def test_who_is_given_rights_need_not_exist(alice):
    """RFC 4314 §6: no answer tells who has an account."""
    for who in ("bob@example.test", "nobody@example.test", "nobody@none.test", "x" * 180 + "@none.test"):
        alice.ok(f"SETACL Work {who} lr")
        assert alice.ok(f"LISTRIGHTS Work {who}")[0].endswith(b'"" l r s w i p k x c t e d a\r\n')


def test_a_search_in_many_mailboxes_looks_into_those_that_may_be_read(alice, bob):
    """RFC 7377 §2.2; what is another's is not personal."""
    for name, granted in (("Open", "lr"), ("Shut", "l"), ("Secret", "r")):
        alice.ok(f"CREATE {name}")
        alice.append(MESSAGE, name)
        alice.ok(f"SETACL {name} bob@example.test {granted}")
    found = bob.ok("ESEARCH IN (subtree Shared/alice@example.test) RETURN (COUNT) ALL")
    assert len(found) == 1
    assert b"Shared/alice@example.test/Open" in found[0]
    assert bob.ok("ESEARCH IN (personal) RETURN (COUNT) ALL") == []


# Each right by itself.


def without(letter: str) -> str:
    return rights.spelled(rights.ALL - {letter})


@pytest.mark.parametrize(
    ("letter", "commands"),
    [
        ("r", ["SELECT {}", "EXAMINE {}", "STATUS {} (MESSAGES)", "GETQUOTAROOT {}"]),
        ("i", ["APPEND {} {{4+}}\r\nabcd", "COPY 1 {}", "MOVE 1 {}", 'APPEND {} CATENATE (URL "/INBOX;UID=1")']),
        ("k", ["CREATE {}/new", "RENAME {} {}/x"]),
        ("x", ["DELETE {}", "RENAME {} {}x"]),
        ("a", ["GETACL {}", "SETACL {} carol@x lr", "DELETEACL {} carol@x", "LISTRIGHTS {} carol@x"]),
        ("w", ['SETMETADATA {} (/shared/comment "x")']),
    ],
)
def test_a_command_needs_its_right(alice, bob, letter: str, commands: list[str]):
    """RFC 4314 §4."""
    name = f"{SHARED}/Work"
    bob.append(MESSAGE)
    bob.ok("SELECT INBOX")
    alice.ok(f"SETACL Work bob@example.test {without(letter)}")
    for command in commands:
        assert bob.refused(command.format(name, name)).startswith(b"NO [NOPERM]"), command
    assert alice.ok("STATUS Work (MESSAGES)") == [b"* STATUS Work (MESSAGES 2)\r\n"]


def test_flags_need_their_rights(alice, bob):
    """RFC 4314 §4: STORE changes those that may be changed, and fails where that is none."""
    alice.ok("SETACL Work bob@example.test lrs")
    untagged, tagged = bob.command(f"SELECT {SHARED}/Work")
    assert tagged.startswith(b"OK [READ-WRITE]")
    assert b"* OK [PERMANENTFLAGS (\\Seen)] Flags that stay\r\n" in untagged
    assert bob.ok("STORE 1 +FLAGS (\\Seen \\Deleted \\Flagged keyword)") == [
        b"* 1 FETCH (FLAGS (\\Recent \\Seen))\r\n"
    ]
    assert bob.refused("STORE 1 +FLAGS (\\Deleted)").startswith(b"NO [NOPERM]")
    assert bob.refused("STORE 1 -FLAGS (\\Flagged)").startswith(b"NO [NOPERM]")
    assert bob.ok("STORE 2 FLAGS (\\Answered)") == [b"* 2 FETCH (FLAGS (\\Flagged \\Recent))\r\n"]
    alice.ok("SETACL Work bob@example.test lrtw")
    assert bob.ok("STORE 2 FLAGS (\\Deleted own)")[-1] == b"* 2 FETCH (FLAGS (\\Deleted \\Recent own))\r\n"
    assert bob.refused("STORE 2 +FLAGS (\\Seen)").startswith(b"NO [NOPERM]")
    assert bob.refused("EXPUNGE").startswith(b"NO [NOPERM]")


def test_reading_sets_seen_only_for_who_may(alice, bob):
    """RFC 4314 §4: FETCH."""
    alice.ok("SETACL Work bob@example.test lrw")
    bob.ok(f"SELECT {SHARED}/Work")
    assert b"\\Seen" not in b"".join(bob.ok("FETCH 1 (BODY[] FLAGS)"))
    alice.ok("SETACL Work bob@example.test +s")
    assert b"\\Seen" in b"".join(bob.ok("FETCH 1 (BODY[] FLAGS)"))


@pytest.mark.parametrize(("granted", "is_writable"), [("lr", False), ("lrpkxa", False), ("ri", True), ("re", True)])
def test_a_mailbox_is_read_only_without_rights_to_change_it(alice, bob, granted: str, is_writable: bool):
    """RFC 4314 §5.2."""
    alice.ok(f"SETACL Work bob@example.test {granted}")
    tagged = bob.command(f"SELECT {SHARED}/Work")[1]
    assert tagged.startswith(b"OK [READ-WRITE]" if is_writable else b"OK [READ-ONLY]")
    if not is_writable:
        assert bob.refused("STORE 1 +FLAGS (\\Seen)").startswith(b"NO")


def test_expunging_needs_e_and_closing_without_it_succeeds(alice, bob):
    """RFC 4314 §4: EXPUNGE, CLOSE."""
    alice.ok("SETACL Work bob@example.test lrt")
    bob.ok(f"SELECT {SHARED}/Work")
    bob.ok("STORE 1 +FLAGS (\\Deleted)")
    assert bob.refused("EXPUNGE").startswith(b"NO [NOPERM]")
    assert bob.refused("UID EXPUNGE 1").startswith(b"NO [NOPERM]")
    assert bob.refused("MOVE 2 INBOX").startswith(b"NO [NOPERM]")
    assert bob.refused(b"REPLACE 2 INBOX {4+}\r\nabcd").startswith(b"NO")
    bob.ok("CLOSE")
    assert alice.ok("STATUS Work (MESSAGES)") == [b"* STATUS Work (MESSAGES 2)\r\n"]
    alice.ok("SETACL Work bob@example.test +e")
    bob.ok(f"SELECT {SHARED}/Work")
    bob.ok("CLOSE")
    assert alice.ok("STATUS Work (MESSAGES)") == [b"* STATUS Work (MESSAGES 1)\r\n"]


@pytest.mark.parametrize(
    ("granted", "kept"),
    [
        ("lrwis", [b"(\\Draft)", b"(\\Answered)", b"($Forwarded \\Seen)"]),
        ("lrsti", [b"(\\Deleted)", b"()", b"(\\Seen)"]),
        ("li", [b"()", b"()", b"()"]),
        ("lrswipkxtea", [b"(\\Deleted \\Draft)", b"(\\Answered)", b"($Forwarded \\Seen)"]),
    ],
)
def test_copies_have_the_flags_that_may_be_set(alice, bob, granted: str, kept: list[bytes]):
    """RFC 4314 §4: the example of copying; APPEND likewise."""
    flags = ("(\\Draft \\Deleted) ", "(\\Answered) ", "($Forwarded \\Seen) ")
    for each in flags:
        bob.append(MESSAGE, flags=each)
    bob.ok("SELECT INBOX")
    alice.ok("CREATE Target")
    alice.ok(f"SETACL Target bob@example.test {granted}")
    assert b"[COPYUID " in bob.command(f"COPY 1:3 {SHARED}/Target")[1]
    for each in flags:
        assert b"[APPENDUID " in bob.append(MESSAGE, f"{SHARED}/Target", each)
    alice.ok("EXAMINE Target")
    found = alice.ok("FETCH 1:* FLAGS")
    shown = [set(line.split(b"FLAGS (")[1][:-4].split()) - {b"\\Recent"} for line in found]
    assert shown == [set(flags[1:-1].split()) for flags in kept * 2]


# Copying and moving between accounts.


def test_messages_go_from_account_to_account_octet_for_octet(alice, bob):
    odd = b"Subject: =?x?\r\nX: \xff\r\n\r\nbare\nline\r\r\n" + b"x" * 300_000
    alice.append(odd, "Work", '"17-Jul-1996 02:44:25 -0700" ')
    alice.ok("SETACL Work bob@example.test lr")
    bob.ok("CREATE Mine")
    bob.ok(f"SELECT {SHARED}/Work")
    assert b"NO [OVERQUOTA]" in bob.command("COPY 1:* Mine")[1]
    assert bob.ok("STATUS Mine (MESSAGES)") == [b"* STATUS Mine (MESSAGES 0)\r\n"]
    bob.ok("COPY 1:2 Mine")
    alice.ok("CREATE Other")
    alice.ok("SETACL Other bob@example.test lri")
    assert bob.command(f"COPY 3 {SHARED}/Other")[1].startswith(b"OK [COPYUID ")
    alice.ok("EXAMINE Other")
    (response,) = alice.ok("FETCH 1 (INTERNALDATE BODY.PEEK[])")
    assert odd in response
    assert b'"17-Jul-1996 09:44:25 +0000"' in response


def test_moving_between_accounts_leaves_nothing_behind(alice, bob):
    """RFC 6851 §4.3."""
    alice.ok("SETACL Work bob@example.test lrte")
    bob.ok("CREATE Mine")
    bob.ok(f"SELECT {SHARED}/Work")
    untagged = bob.ok("MOVE 1:2 Mine")
    assert untagged[0].startswith(b"* OK [COPYUID ")
    assert untagged[1:3] == [b"* 2 EXPUNGE\r\n", b"* 1 EXPUNGE\r\n"]
    assert alice.ok("STATUS Work (MESSAGES)") == [b"* STATUS Work (MESSAGES 0)\r\n"]
    bob.ok("SELECT Mine")
    assert bob.ok("FETCH 2 FLAGS") == [b"* 2 FETCH (FLAGS (\\Flagged \\Recent \\Seen))\r\n"]


def test_what_is_put_there_counts_for_the_owners_quota(alice, bob):
    """Bob has room for 3,000 octets, alice has no limit: it is the other way round for each in the other's."""
    bob.ok("CREATE Small")
    bob.ok("SETACL Small alice@example.test lri")
    alice.ok("SETACL Work bob@example.test lri")
    large = b"Subject: x\r\n\r\n" + b"y" * 4000
    assert bob.append(large, f"{SHARED}/Work").startswith(b"OK")
    assert alice.append(large, "Shared/bob@example.test/Small").startswith(b"NO [OVERQUOTA]")
    assert bob.append(large, "Small").startswith(b"NO [OVERQUOTA]")
    assert bob.ok(f"GETQUOTAROOT {SHARED}/Work") == [b"* QUOTAROOT Shared/alice@example.test/Work\r\n"]


# Managing others' mailboxes.


def test_mailboxes_are_made_renamed_and_deleted_where_that_is_given(alice, bob):
    """RFC 4314 §4: a new mailbox has the rights of the one above it; renaming keeps them."""
    alice.ok("SETACL Work bob@example.test lrkx")
    bob.ok(f"CREATE {SHARED}/Work/New/")
    assert alice.ok("GETACL Work.New")[0].endswith(b"bob@example.test lrkxc\r\n")
    assert bob.refused(f"CREATE {SHARED}/Top").startswith(b"NO [NONEXISTENT]")
    assert bob.refused(f"CREATE {SHARED}/Work/New").startswith(b"NO [NOPERM]")
    bob.ok(f"RENAME {SHARED}/Work/New {SHARED}/Work/Newer")
    bob.ok(f"SELECT {SHARED}/Work/Newer")
    for new in ("Mine", "Shared/none@example.test/Work/x", f"{SHARED}/Top"):
        assert bob.refused(f"RENAME {SHARED}/Work/Newer {new}").startswith(b"NO"), new
    assert bob.refused(f"RENAME INBOX {SHARED}/Work/x").startswith(b"NO")
    bob.ok(f"DELETE {SHARED}/Work/Newer")
    assert names(alice.ok('LIST "" Work*')) == [b"Work"]
    alice.ok("CREATE Work.New")
    assert b"bob@example.test" in alice.ok("GETACL Work.New")[0]
    alice.ok("DELETE Work")
    alice.ok("CREATE Work")
    assert alice.ok("GETACL Work") == [b"* ACL Work alice@example.test lrswipkxteacd\r\n"]


def test_annotations_of_a_shared_mailbox_are_shared_or_each_ones_own(alice, bob):
    """RFC 5464 §3.3."""
    alice.ok("SETACL Work bob@example.test lrw")
    alice.ok('SETMETADATA Work (/shared/comment "for all" /private/comment "alice\'s")')
    name = f"{SHARED}/Work"
    assert bob.ok(f"GETMETADATA {name} (/shared/comment /private/comment)") == [
        f'* METADATA {name} (/shared/comment "for all" /private/comment NIL)\r\n'.encode()
    ]
    bob.ok(f'SETMETADATA {name} (/shared/comment "bob was here" /private/comment "bob\'s")')
    assert alice.ok("GETMETADATA Work (/shared/comment /private/comment)") == [
        b'* METADATA Work (/shared/comment "bob was here" /private/comment "alice\'s")\r\n'
    ]
    alice.ok("SETACL Work bob@example.test la")
    assert bob.refused(f"GETMETADATA {name} /shared/comment").startswith(b"NO [NOPERM]")


def test_who_administers_may_pass_rights_on(live, alice, bob, log_in):
    add_account(live, "carol@example.test")
    carol = log_in("carol@example.test")
    alice.ok("SETACL Work bob@example.test la")
    bob.ok(f"SETACL {SHARED}/Work carol@example.test lr")
    carol.ok(f"EXAMINE {SHARED}/Work")
    assert bob.refused(f"SETACL {SHARED}/Work alice@example.test l").startswith(b"NO [CANNOT]")


# Rights that change while they are used.


def test_who_may_no_longer_read_is_shown_the_door(alice, bob):
    """RFC 4314 §5.1.1."""
    alice.ok("SETACL Work bob@example.test lrs")
    bob.ok(f"SELECT {SHARED}/Work")
    alice.ok("SETACL Work bob@example.test l")
    untagged, tagged = bob.command("FETCH 1 BODY[]")
    assert tagged.startswith(b"NO")
    assert untagged == [b"* BYE The selected mailbox has been deleted or renamed\r\n"]


def test_who_idles_and_may_no_longer_read_hears_nothing_more(alice, bob):
    alice.ok("SETACL Work bob@example.test lr")
    bob.ok(f"SELECT {SHARED}/Work")
    bob.send(b"i IDLE\r\n")
    assert bob.response().startswith(b"+")
    alice.append(MESSAGE, "Work")
    assert bob.response() == b"* 3 EXISTS\r\n"
    alice.ok("DELETEACL Work bob@example.test")
    alice.append(MESSAGE, "Work")
    while (response := bob.response()) == b"* 3 RECENT\r\n":
        pass
    assert response.startswith(b"* BYE")


def test_both_see_each_others_changes(alice, bob):
    alice.ok("SETACL Work bob@example.test lrswite")
    bob.ok(f"SELECT {SHARED}/Work")
    alice.ok("SELECT Work")
    bob.ok("STORE 1 +FLAGS (\\Seen)")
    assert b"\\Seen" in b"".join(alice.ok("NOOP"))
    bob.ok("MOVE 1 INBOX")
    assert alice.ok("NOOP") == [b"* 1 EXPUNGE\r\n"]


# What the rights are kept in.


def test_the_rights_are_couriers_file_and_survive_the_index(live, alice, bob):
    root = f"{live.settings.path('mail')}/example.test/alice"
    alice.ok("SETACL Work bob@example.test lrs")
    with open(f"{root}/.Work/courierimapacl") as file:
        assert file.read() == "user=bob@example.test lrs\n"
    os.unlink(f"{root}/posthouse.index")
    bob.ok(f"EXAMINE {SHARED}/Work")


def test_what_courier_wrote_counts_and_is_kept(live, alice, bob):
    root = f"{live.settings.path('mail')}/example.test/alice"
    with open(f"{root}/.Work/courierimapacl", "w") as file:
        file.write(
            "owner aceilrstwx\nadministrators aceilrstwx\nuser=bob@example.test lrsw\n-user=bob@example.test w\n"
        )
    assert bob.refused(f"EXAMINE {SHARED}/Work").startswith(b"NO [NONEXISTENT]")
    alice.ok("SETACL Work group=staff lr")  # any change looks at all of it only for whom it is about
    alice.ok("SETACL Work bob@example.test +i")
    assert bob.ok(f"MYRIGHTS {SHARED}/Work") == [b"* MYRIGHTS Shared/alice@example.test/Work lrsi\r\n"]
    with open(f"{root}/.Work/courierimapacl") as file:
        assert file.read() == (
            "owner lrswikxtea\nadministrators lrswikxtea\nuser=bob@example.test lrswi\n-user=bob@example.test w\n"
            "group=staff lr\n"
        )


def test_an_account_that_is_switched_off_shares_nothing(live, alice, bob):
    alice.ok("SETACL Work bob@example.test lr")
    with closing(sqlite3.connect(live.settings.path("posthouse.db"))) as database:
        database.execute("UPDATE users SET postfix = 'n' WHERE email = 'alice@example.test'")
        database.commit()
    given_up = time.monotonic() + 30
    while (tagged := bob.command(f"EXAMINE {SHARED}/Work")[1]).startswith(b"OK"):
        assert time.monotonic() < given_up  # the directory looks for changes now and then
    assert tagged.startswith(b"NO [NONEXISTENT]")
    assert names(bob.ok('LIST "" *')) == [b"INBOX"]
