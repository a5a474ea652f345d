"""LIST with its options, STATUS with its newer items, quota, and changing the login."""

import pytest


def listed(responses: list[bytes]) -> dict[bytes, tuple[set[bytes], bytes]]:
    """Name to attributes and what follows the name."""
    found = {}
    for line in responses:
        if line.startswith(b"* LIST "):
            attributes, rest = line.split(b"(", 1)[1].split(b') "." ')
            name, _, extra = rest.rstrip().partition(b" ")
            found[name] = set(attributes.split()), extra
    return found


@pytest.fixture
def fruit(client):
    """The mailboxes of RFC 5258 §5, with our separator."""
    for name in ("Fruit.Apple", "Fruit.Banana", "Tofu", "Vegetable.Broccoli", "Vegetable.Corn"):
        client.ok(f"CREATE {name}")
    for name in ("INBOX", "Fruit.Banana", "Fruit.Peach", "Vegetable", "Vegetable.Broccoli"):
        client.ok(f"SUBSCRIBE {name}")
    return client


def test_subscriptions_are_selected_also_where_there_is_no_mailbox(fruit):
    """RFC 5258 §5, Example 2."""
    found = listed(fruit.ok('LIST (SUBSCRIBED) "" "*"'))
    assert found.keys() == {b"INBOX", b"Fruit.Banana", b"Fruit.Peach", b"Vegetable", b"Vegetable.Broccoli"}
    assert all(b"\\Subscribed" in attributes for attributes, _ in found.values())
    assert b"\\NonExistent" in found[b"Fruit.Peach"][0]
    assert b"\\NonExistent" not in found[b"Fruit.Banana"][0]


def test_subscriptions_are_told_of_all_mailboxes(fruit):
    """RFC 5258 §5, Example 5 and 6."""
    found = listed(fruit.ok('LIST "" "*" RETURN (SUBSCRIBED CHILDREN)'))
    assert b"\\Subscribed" in found[b"Fruit.Banana"][0]
    assert b"\\Subscribed" not in found[b"Fruit.Apple"][0]
    assert b"\\HasChildren" in found[b"Fruit"][0]
    assert b"Fruit.Peach" not in found


def test_several_patterns_find_each_mailbox_once(fruit):
    """RFC 5258 §3."""
    lines = fruit.ok('LIST "" (INBOX "Fruit.%" "*Apple" "")')
    assert [line.split()[-1] for line in lines] == [b"INBOX", b"Fruit.Apple", b"Fruit.Banana"]


def test_parents_of_subscriptions_that_are_not_listed_are(fruit):
    """RFC 5258 §5, Example 8."""
    found = listed(fruit.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"'))
    assert found[b"Fruit"][1] == found[b"Vegetable"][1] == b'("CHILDINFO" ("SUBSCRIBED"))'
    assert b"\\Subscribed" not in found[b"Fruit"][0]
    assert b"\\Subscribed" in found[b"Vegetable"][0]
    assert found[b"INBOX"][1] == b""
    assert b"Tofu" not in found


def test_mailboxes_with_a_use_are_selected(fruit):
    """RFC 6154 §5.2."""
    fruit.ok("CREATE Gesendet (USE (\\Sent))")
    assert listed(fruit.ok('LIST (SPECIAL-USE) "" "*"')).keys() == {b"Gesendet"}
    assert b"\\Sent" in listed(fruit.ok('LIST "" Gesendet RETURN (SPECIAL-USE)'))[b"Gesendet"][0]


def test_each_mailbox_is_followed_by_its_status(fruit):
    """RFC 5819 §2: not one that can't be selected."""
    fruit.append(b"Subject: x\r\n\r\n", "Tofu")
    lines = fruit.ok('LIST "" (Tofu Fruit "Fruit.A*") RETURN (STATUS (MESSAGES UNSEEN))')
    assert [line.split()[1] for line in lines] == [b"LIST", b"LIST", b"STATUS", b"LIST", b"STATUS"]
    assert lines[-1] == b"* STATUS Tofu (MESSAGES 1 UNSEEN 1)\r\n"


@pytest.mark.parametrize(
    "command",
    [
        'LIST (RECURSIVEMATCH) "" *',
        'LIST (NONSENSE) "" *',
        'LIST "" * RETURN (NONSENSE)',
        'LIST "" * RETURN (STATUS (NONSENSE))',
        'LIST "" * RETURN',
        'LIST "" ()',
        'LIST "" (' + " ".join(["a"] * 101) + ")",
    ],
)
def test_options_that_are_unknown_are_refused(client, command: str):
    assert client.refused(command).startswith(b"BAD")


def test_status_measures_what_another_program_delivered(live, client):
    """RFC 8438: SIZE is no less than the sum of RFC822.SIZE, line ends being CRLF."""
    client.append(b"Subject: x\r\n\r\n")
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS (\\Deleted)")
    with open(f"{live.settings.path('mail')}/example.test/alice/new/1.elsewhere", "wb") as file:
        file.write(b"Subject: y\n\nz\n")
    items = "(SIZE DELETED DELETED-STORAGE APPENDLIMIT)"
    assert client.ok(f"STATUS INBOX {items}")[0] == (
        b"* STATUS INBOX (SIZE 31 DELETED 1 DELETED-STORAGE 14 APPENDLIMIT %d)\r\n"
        % live.settings.imap.max_append_bytes
    )


def test_quota_is_told(live, connect):
    """RFC 9208 §4.1, §4.2."""
    bob = connect(live, login=False)
    bob.ok("LOGIN bob@example.test secret")
    bob.append(b"Subject: x\r\n\r\n" + b"y" * 1500 + b"\r\n")
    answer = [b'* QUOTAROOT INBOX ""\r\n', b'* QUOTA "" (STORAGE 2 2)\r\n']
    assert bob.ok("GETQUOTAROOT INBOX") == answer
    assert bob.ok('GETQUOTA ""') == answer[1:]
    assert bob.refused("GETQUOTA other").startswith(b"NO [NONEXISTENT]")
    assert bob.refused("GETQUOTAROOT nowhere").startswith(b"NO [NONEXISTENT]")


def test_who_has_no_limit_has_no_quota_root(client):
    assert client.ok("GETQUOTAROOT INBOX") == [b"* QUOTAROOT INBOX\r\n"]
    assert client.refused('GETQUOTA ""').startswith(b"NO [NONEXISTENT]")


def test_another_login_on_the_same_connection_sees_only_its_own(client):
    """RFC 8437 §4: what was selected and enabled is so no longer."""
    client.append(b"Subject: x\r\n\r\n")
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    client.ok("UNAUTHENTICATE")
    assert client.refused("FETCH 1 FLAGS").startswith(b"BAD")
    assert client.refused("SELECT INBOX").startswith(b"BAD")
    client.ok("LOGIN bob@example.test secret")
    assert b"* 0 EXISTS\r\n" in client.ok("SELECT INBOX")
    assert client.refused("SELECT INBOX (QRESYNC (1 1))").startswith(b"BAD")
