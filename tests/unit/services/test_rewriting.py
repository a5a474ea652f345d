"""services/rewriting/: canonical addresses, copies, header checks, and what access tables do with a message."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.test_onward import House

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Refused, TryLater
from posthouse.config.rewriting import Rewrite
from posthouse.config.settings import Settings
from posthouse.message.addresschange import change_addresses
from posthouse.services.reception import Client, _obey
from posthouse.services.restrictions.actions import parse_action
from posthouse.services.restrictions.decision import Outcome
from posthouse.services.rewriting.checks import MAX_FIELDS, check, read_checks
from posthouse.services.rewriting.maps import read_map
from posthouse.services.rewriting.rewriting import HEAD_BYTES, Rewriting, broken_files
from posthouse.services.rewriting.treatment import Treatment
from posthouse.services.textfiles import LOOK_SECONDS, TableError, TextFiles

STRANGER = Client("192.0.2.1", helo="x")
BOB = Client("192.0.2.1", helo="x", login="bob@a.test", is_submission=True)
HEAD = b"From: Bob <bob@a.test>\r\nTo: you@b.test,\r\n old@a.test\r\nDate: x\r\nMessage-ID: <1@a.test>\r\n"
TEXT = HEAD + b"Subject: hi\r\n\r\nbob@a.test\r\n"


def rules(tmp_path, text):
    path = tmp_path / "checks"
    path.write_text(text)
    return read_checks(str(path))


def rewrite(house, **files):
    """Let ``house`` rewrite: a map's or the checks' text for each setting, and an address for always_bcc."""
    given = {}
    for name, text in files.items():
        given[name] = text
        if name != "always_bcc":
            (house.path / name).write_text(text)
            given[name] = name
    settings = Settings(data_dir=str(house.path), rewrite=Rewrite(**given))
    assert broken_files(settings) == []
    house.reception._rewriting = Rewriting(settings, house.reception.placement)


async def send(house, *recipients, client=STRANGER, sender="you@b.test", data=TEXT, action=""):
    transaction = await house.reception.begin(client, sender)
    for address in recipients:
        await house.reception.add_recipient(transaction, address)
    if action:
        _obey(Outcome(treatment=parse_action(action).treatment), transaction)
    house.reception.start_content(transaction)
    house.reception.add_content(transaction, data)
    try:
        await house.reception.finish(transaction)
    finally:
        transaction.close()


def boxed(house):
    """What is in Bob's mailbox, with CRLF."""
    new = house.path / "mail/a.test/bob/new"
    return [file.read_bytes().replace(b"\n", b"\r\n") for file in new.iterdir()] if new.exists() else []


def queued(house):
    """Sender, recipients and text of what is in the queue."""
    found = []
    for name in house.queue:
        message = house.spool.load(name)
        with message.open() as file:
            found.append((message.envelope, file.read(), message.state.hold))
    return found


def in_house(tmp_path, scenario):
    async def main():
        async with House(tmp_path) as house:
            await scenario(house)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        (b" a@x", b" [a@x]"),
        (b" A <a@x>, b@y;c@z", b" A <[a@x]>, [b@y];[c@z]"),
        (b' "a@x" <a@x>', b' "a@x" <[a@x]>'),
        (b" a@x <b@y>", b" a@x <[b@y]>"),
        (b" (a@x) b@y (c@z)", b" (a@x) [b@y] (c@z)"),
        (b" list: a@x,\r\n\tb@y;", b" list: [a@x],\r\n\t[b@y];"),
        (b" <@relay,@other:a@x>", b" <@relay,@other:[a@x]>"),
        (b" a@[192.0.2.1]", b" [a@[192.0.2.1]]"),
        (b" a @ x, \xff@y", b" a @ x, \xff@y"),
        (b' "unclosed a@x', b' "unclosed a@x'),
    ],
)
def test_only_addresses_are_changed(value, changed):
    assert change_addresses(value, lambda address: f"[{address}]") == changed


@given(st.binary() | st.text('a@<>()",;:[]\\ \r\n').map(str.encode))
def test_what_is_not_changed_stays_octet_for_octet(value):
    assert change_addresses(value, lambda _: None) == value
    assert change_addresses(value, lambda address: address) == value


def test_the_nearest_key_of_a_map_counts(tmp_path):
    path = tmp_path / "map"
    path.write_text(
        "# canonical\nanna@a.test Anna.Smith@a.test\nanna+x@a.test x@a.test\n@old.test @a.test\n"
        "@.sub.test @sub.test\n@all.test one@a.test\nround@a.test trip@a.test\ntrip@a.test round@a.test\n"
    )
    canonical = read_map(str(path)).canonical
    for address, found in {
        "ANNA@a.test": "Anna.Smith@a.test",
        "anna+X@a.test": "x@a.test",
        "anna+News@a.test": "Anna.Smith+News@a.test",
        "Anna@old.test": "Anna.Smith@a.test",
        "Eve@old.test": "Eve@a.test",
        "root@www.in.sub.test": "root@sub.test",
        "root@sub.test": "root@sub.test",
        "any@all.test": "one@a.test",
        "other@a.test": "other@a.test",
    }.items():
        assert canonical(address, "+") == found
    with pytest.raises(TryLater, match="in circles"):
        canonical("round@a.test", "+")


@pytest.mark.parametrize("line", ["a@b", "a@b c", "a b@c", "@b c@d e@f", "a@.b c@d", "a@b @c", "a@b c@d..e"])
def test_a_wrong_line_of_a_map_is_told_with_its_number(tmp_path, line):
    path = tmp_path / "map"
    path.write_text(f"\nx@y z@y\n{line}\n")
    with pytest.raises(TableError, match=re.escape(f"{path}:3: ")):
        read_map(str(path))


def test_a_sender_is_canonical_in_envelope_and_for_our_own_users_in_the_header(tmp_path):
    async def scenario(house):
        rewrite(house, sender_canonical="bob@a.test Bob.Baker@a.test\nyou@b.test me@b.test\n")
        await send(house, "x@far.test", client=BOB, sender="bob@a.test")
        ((envelope, text, _),) = queued(house)
        assert envelope.sender == "Bob.Baker@a.test"
        assert text.endswith(TEXT.replace(b"<bob@a.test>", b"<Bob.Baker@a.test>"))
        await send(house, "bob@a.test")
        (message,) = boxed(house)
        assert message.startswith(b"Return-Path: <me@b.test>\r\n")
        assert message.endswith(TEXT), "what strangers have written stays"

    in_house(tmp_path, scenario)


def test_a_recipient_is_canonical_and_may_be_elsewhere_where_the_one_asked_for_is_ours(tmp_path):
    async def scenario(house):
        rewrite(
            house, recipient_canonical="old@a.test bob@a.test\ngone@a.test me@far.test\nours@far.test bob@a.test\n"
        )
        await send(house, "old@a.test", client=BOB, sender="bob@a.test")
        (message,) = boxed(house)
        assert b"for <old@a.test>" in message
        assert message.endswith(TEXT.replace(b"\r\n old@", b"\r\n bob@"))
        await send(house, "gone@a.test")
        ((envelope, _, _),) = queued(house)
        assert [(one.address, one.original) for one in envelope.recipients] == [("me@far.test", "gone@a.test")]
        with pytest.raises(Refused, match="may not relay"):
            await send(house, "them@far.test")

    in_house(tmp_path, scenario)


def test_copies_are_made_once_without_reports_and_are_told_nowhere(tmp_path):
    async def scenario(house):
        rewrite(
            house,
            always_bcc="all@far.test",
            sender_bcc="@b.test from@far.test\n",
            recipient_bcc="bob@a.test to@far.test\nthem@far.test all@far.test\nall@far.test loop@far.test\n",
        )
        await send(house, "bob@a.test")
        (message,) = boxed(house)
        ((envelope, text, _),) = queued(house)
        assert [one.address for one in envelope.recipients] == ["all@far.test", "from@far.test", "to@far.test"]
        assert all(one.notify == {"NEVER"} for one in envelope.recipients)
        for told in (message, text):
            assert b"far.test" not in told
            assert b"for <bob@a.test>" in told

    in_house(tmp_path, scenario)


def test_who_gets_it_anyhow_gets_no_copy_and_a_copy_for_nobody_stops_no_mail(tmp_path):
    async def scenario(house):
        rewrite(house, always_bcc="bob@a.test", recipient_bcc="bob@a.test nobody@a.test\n")
        await send(house, "bob@a.test")
        assert len(boxed(house)) == 1
        await house.work()
        assert (house.queue, house.reported) == ([], [])

    in_house(tmp_path, scenario)


def test_rules_change_what_they_match_and_nothing_else(tmp_path):
    found = rules(
        tmp_path,
        r"""
# the first that matches counts
/^X-Mine: keep/ DUNNO
/^X-Mine:/ IGNORE
/^Subject: (.*) and (.*)$/ REPLACE Subject: ${2} $$ $1
/^From:.*@(\w+)\./ PREPEND X-From: $1
#^To: /#  IGNORE
/^cc: /i STRIP
""".replace("#^To", "|^To").replace("/#  IGNORE", "/|  IGNORE"),
    )
    head = (
        b"X-Mine: keep\r\nX-Mine: drop\r\n me too\r\nSUBJECT: this\r\n and\r\n that\r\nTo: /x\r\n"
        b"From: \xff <a@b.c>\r\nCc: x\r\nstray\r\n\r\n"
    )
    new, treatment = check(found, head, "id")
    assert new == (
        b"X-Mine: keep\r\nSubject: that $ this\r\nX-From: b\r\nFrom: \xff <a@b.c>\r\nCc: x\r\nstray\r\n\r\n"
    )
    assert treatment == Treatment()


@given(st.binary())
def test_without_a_match_every_octet_stays(tmp_path_factory, head):
    found = rules(tmp_path_factory.mktemp("rules"), "/^never: matches this$/ IGNORE\n")
    head = head[:10_000] + b"\r\n\r\n"
    new, _ = check(found, head, "id")
    assert head.startswith(new)


@pytest.mark.parametrize(
    "line",
    [
        "REJECT", "/x/", "/x/ NOTHING", "/x/m REJECT", "/(/ REJECT", "/(?=x)/ REJECT", r"/\1/ REJECT",
        "/x/ REPLACE y", "/x/ PREPEND no field", "/x/ REPLACE A: $1", "/x/ REDIRECT", "/x/ BCC nobody",
        "/x/ FILTER smtp:x", "!/x/ HOLD", "if /x/", "/x{2000}/ HOLD",
    ],
)  # fmt: skip
def test_a_wrong_rule_is_told_with_its_line(tmp_path, line):
    with pytest.raises(TableError, match=re.escape(f"{tmp_path}/checks:2: ")):
        rules(tmp_path, f"# rules\n{line}\n")


def test_a_broken_edit_of_the_rules_changes_nothing(tmp_path):
    async def scenario():
        clock = FakeClock()
        files = TextFiles(read_checks, clock)
        path = str(tmp_path / "checks")
        (before,) = (rules(tmp_path, "/x/ HOLD\n"),)
        assert [rule.word for rule in await files.table(path)] == ["HOLD"]
        (tmp_path / "checks").write_text("/x/ HOLD\n/(/ REJECT\n")
        clock.advance(LOOK_SECONDS + 1)
        assert [rule.word for rule in await files.table(path)] == [rule.word for rule in before]

    asyncio.run(scenario())


def test_a_rule_refuses_with_its_own_words(tmp_path):
    found = rules(tmp_path, "/^Subject: a/ REJECT\n/^Subject: b/ REJECT 5.7.9 not here\n")
    with pytest.raises(Refused) as caught:
        check(found, b"Subject: a\r\n\r\n", "id")
    assert str(caught.value.reply) == "550 5.7.1 Message content rejected"
    with pytest.raises(Refused) as caught:
        check(found, b"Subject: b\r\n\r\n", "id")
    assert str(caught.value.reply) == "550 5.7.9 not here"


@pytest.mark.parametrize("is_large", [False, True])
def test_the_body_of_a_message_whose_header_is_changed_stays(tmp_path, is_large):
    async def scenario(house):
        rewrite(house, header_checks="/^Subject:/ REPLACE Subject: another\n")
        body = b"Subject: hi\r\n\r\n" + b"0123456789abcdef" * (20_000 if is_large else 1) + b"\r\n.\r\n"
        await send(house, "x@far.test", client=BOB, sender="bob@a.test", data=HEAD + body)
        ((_, text, _),) = queued(house)
        assert text.endswith(HEAD + body.replace(b"hi", b"another", 1))

    in_house(tmp_path, scenario)


@pytest.mark.parametrize("data", [b"X: y\r\n" * (MAX_FIELDS + 1), b"X: " + b"y" * HEAD_BYTES])
def test_a_header_too_large_to_be_checked_is_refused_where_there_are_checks(tmp_path, data):
    async def scenario(house):
        message = data + b"\r\n\r\nbody\r\n"
        rewrite(house, sender_canonical="bob@a.test bert@a.test\n")
        await send(house, "bob@a.test", client=BOB, sender="bob@a.test", data=message)
        assert boxed(house)[0].endswith(message)
        rewrite(house, header_checks="/^Subject: x/ REJECT\n")
        with pytest.raises(Refused) as caught:
            await send(house, "bob@a.test", data=message)
        assert str(caught.value.reply).startswith("552 5.3.4")

    in_house(tmp_path, scenario)


@pytest.mark.parametrize("by", ["rule", "table"])
def test_a_message_is_held_discarded_redirected_or_copied(tmp_path, by):
    async def scenario(house):
        async def treat(action):
            if by == "rule":
                rewrite(house, header_checks=f"/^Subject: hi/ {action}\n")
            else:
                rewrite(house, always_bcc="")
            await send(house, "bob@a.test", action=action if by == "table" else "")

        await treat("DISCARD spam")
        assert (boxed(house), house.queue) == ([], [])
        await treat("HOLD look at this")
        assert boxed(house) == []
        ((envelope, _, is_held),) = queued(house)
        assert is_held
        assert [one.address for one in envelope.recipients] == ["bob@a.test"]
        await treat("REDIRECT them@far.test")
        assert boxed(house) == []
        assert sorted(one.address for envelope, _, _ in queued(house) for one in envelope.recipients) == [
            "bob@a.test",
            "them@far.test",
        ]
        await treat("BCC copy@far.test")
        assert len(boxed(house)) == 1
        assert len(house.queue) == 3

    in_house(tmp_path, scenario)
