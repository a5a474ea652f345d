"""The LDAP client's engine: messages octet for octet, hostile servers, filters and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.ldap import messages
from posthouse.protocols.ldap.ber import ENUMERATED, SEQUENCE, SET, BerError, Reader, element, header, integer, octets
from posthouse.protocols.ldap.client import MAX_MESSAGE, Ended, LdapClient
from posthouse.protocols.ldap.filter import MAX_DEPTH, FilterError, parse_filter
from posthouse.protocols.ldap.messages import Entry, Reference, Result
from posthouse.protocols.ldap.names import escape_in_dn, escape_in_filter, fill_dn, fill_filter


def response(message_id, operation):
    return element(SEQUENCE, integer(message_id) + operation)


def result(message_id, tag, code, text=b"", more=b""):
    return response(message_id, element(tag, integer(code, ENUMERATED) + octets(b"") + octets(text) + more))


def found(message_id, dn, **attributes):
    listed = b"".join(
        element(SEQUENCE, octets(name.encode()) + element(SET, b"".join(map(octets, values))))
        for name, values in attributes.items()
    )
    return response(message_id, element(messages.SEARCH_ENTRY, octets(dn.encode()) + element(SEQUENCE, listed)))


def asking():
    """A client that has asked everything: StartTLS is 1, a search 2, a bind 3."""
    client = LdapClient()
    client.start_tls()
    client.search("dc=example", "(mail=a@b)")
    client.bind("cn=a", b"secret")
    return client


def events(client, *pieces):
    happened = []
    for piece in pieces:
        client.receive(piece)
        while (event := client.next_event()) is not NEED_DATA:
            happened.append(event)
    return happened


ANSWERS = (
    result(1, messages.EXTENDED_RESPONSE, 0, more=octets(messages.START_TLS_OID, 0x8A))
    + found(2, "uid=a,dc=example", Mail=[b"a@b", b"\xff"])
    + response(2, element(messages.SEARCH_REFERENCE, octets(b"ldap://other/dc=example")))
    + result(2, messages.SEARCH_DONE, 0)
    + result(3, messages.BIND_RESPONSE, 49, b"no", more=element(0xA3, octets(b"ldap://x")))
)


def test_a_bind_is_what_rfc_4511_says_octet_for_octet():
    """RFC 4511 §4.2, by hand."""
    client = LdapClient()
    assert client.bind("cn=a", b"pw") == 1
    assert client.data_to_send() == bytes.fromhex("3012 020101 600d 020103 0404 636e3d61 8002 7077".replace(" ", ""))
    assert client.data_to_send() == b""


def test_a_search_start_tls_and_unbind_are_what_rfc_4511_says():
    client = LdapClient()
    assert client.start_tls() == 1
    assert client.data_to_send() == bytes.fromhex("301d020101 7718 8016".replace(" ", "")) + messages.START_TLS_OID
    assert client.search("o", "(a=b)", ("mail",), size_limit=2, seconds=5) == 2
    body = "04016f 0a0102 0a0100 020102 020105 010100 a306 040161 040162 3006 04046d61696c".replace(" ", "")
    assert client.data_to_send() == bytes.fromhex(f"3027 020102 6322 {body}".replace(" ", ""))
    client.unbind()
    assert client.data_to_send() == bytes.fromhex("30050201034200")


def test_every_answer_is_an_event():
    assert events(asking(), ANSWERS) == [
        Result(1, messages.EXTENDED_RESPONSE, 0),
        Entry(2, "uid=a,dc=example", {"mail": (b"a@b", b"\xff")}),
        Reference(2, ("ldap://other/dc=example",)),
        Result(2, messages.SEARCH_DONE, 0),
        Result(3, messages.BIND_RESPONSE, 49, "no", ("ldap://x",)),
    ]


@given(st.data())
def test_any_cut_of_the_same_octets_gives_the_same_events(data):
    stream = bytearray(ANSWERS)
    for _ in range(data.draw(st.integers(0, 2))):  # some damage, at times
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=8, unique=True)))
    pieces = [bytes(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert events(asking(), *pieces, b"") == events(asking(), bytes(stream), b"")


@given(st.binary(max_size=200))
def test_no_octets_make_it_raise(octets_from_nowhere):
    happened = events(asking(), octets_from_nowhere, b"")
    assert isinstance(happened[-1], Ended)
    assert events(asking(), b"\x30" + octets_from_nowhere, b"")


@pytest.mark.parametrize(
    "octets_of_a_liar",
    [
        result(3, messages.SEARCH_DONE, 0),  # the answer to a bind that is none
        result(4, messages.BIND_RESPONSE, 0),  # nobody has asked
        result(3, messages.BIND_RESPONSE, 0) + result(3, messages.BIND_RESPONSE, 0),  # twice
        found(3, "uid=a"),
        response(3, b""),
        response(3, element(0x79, b"")),
        response(3, element(messages.BIND_RESPONSE, integer(0, ENUMERATED))),
        result(3, messages.BIND_RESPONSE, 0, b"\xff"),
        element(0x31, b""),
        b"\x30\x80",
        b"\x30\x89" + bytes(9),
        b"\x30\x84" + (MAX_MESSAGE + 1).to_bytes(4, "big"),
        b"\x30\x03\x02\x05\x01",
        b"\x30\x06\x02\x01\x03\x1f\x20\x00",
        response(3, element(messages.BIND_RESPONSE, octets(b"\x80", ENUMERATED) + octets(b"") * 2)),
    ],
)
def test_what_is_no_answer_ends_the_session(octets_of_a_liar):
    """Nothing of it is taken for a yes, and what follows is not looked at."""
    happened = events(asking(), octets_of_a_liar + result(2, messages.SEARCH_DONE, 0))
    assert isinstance(happened[-1], Ended)
    assert happened[-1].reason.startswith("no LDAP: ")


def test_a_server_that_says_goodbye_is_heard():
    """RFC 4511 §4.4.1."""
    assert events(asking(), result(0, messages.EXTENDED_RESPONSE, 52, b"going down")) == [
        Ended("the server ends the session: code 52 going down")
    ]
    assert events(asking(), b"") == [Ended("the server closed the connection")]


def test_a_yes_sent_in_clear_before_tls_is_worth_nothing():
    """The STARTTLS injections of 2021: the answer to the bind that comes after TLS is slipped in before it."""
    client = LdapClient()
    client.start_tls()
    client.receive(result(1, messages.EXTENDED_RESPONSE, 0) + result(2, messages.BIND_RESPONSE, 0))
    assert client.next_event() == Result(1, messages.EXTENDED_RESPONSE, 0)
    client.tls_started()
    assert client.bind("cn=a", b"wrong") == 2
    assert client.next_event() is NEED_DATA


def test_an_empty_password_is_not_sent():
    """RFC 4513 §5.1.2: it would be an unauthenticated bind, which succeeds."""
    client = LdapClient()
    with pytest.raises(ValueError, match="empty password"):
        client.bind("cn=a", b"")
    assert client.data_to_send() == b""


@pytest.mark.parametrize(
    ("text", "hexadecimal"),
    [
        ("(mail=a)", "a309 04046d61696c 040161"),
        ("(mail=)", "a308 04046d61696c 0400"),
        ("(a=*)", "870161"),
        ("(a=b*c*d)", "a40e 040161 3009 800162 810163 820164"),
        ("(a=*c*)", "a408 040161 3003 810163"),
        ("(a=\\2a\\28)", "a307 040161 04022a28"),
        ("(a>=b)", "a506 040161 040162"),
        ("(a<=b)", "a606 040161 040162"),
        ("(a~=b)", "a806 040161 040162"),
        ("(&(a=b)(!(c=d)))", "a012 a306040161040162 a208 a306040163040164"),
        ("(|(a=*))", "a103 870161"),
        ("(2.5.4.3;lang-de=é)", "a315 040f" + b"2.5.4.3;lang-de".hex() + "0402c3a9"),
    ],
)
def test_a_filter_is_read_as_rfc_4515_says(text, hexadecimal):
    assert parse_filter(text) == bytes.fromhex(hexadecimal.replace(" ", ""))


@pytest.mark.parametrize(
    "text",
    ["", "a=b", "(a=b", "(a=b))", "()", "(&)", "(!(a=b)(c=d))", "(a)", "(=b)", "(a:=b)", "(a=(b)", "(a=\\4)",
     "(a=**)", "(a>=*)", "(a=b)(c=d)", "(a=\0)", "(!" * MAX_DEPTH + "(a=b)" + ")" * MAX_DEPTH],
)  # fmt: skip
def test_what_is_no_filter_is_told(text):
    with pytest.raises(FilterError):
        parse_filter(text)


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_stays_a_value_whatever_it_is(value):
    """RFC 4515 §3, RFC 4514 §2.4: no login is more than the text to compare with."""
    assert parse_filter(f"(a={escape_in_filter(value)})") == element(0xA3, octets(b"a") + octets(value.encode()))
    escaped = escape_in_dn(value)
    assert not set(escaped) & set(',+"<>;#= \0\n')
    parts = escaped.split("\\")
    unescaped = parts[0].encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in parts[1:])
    assert unescaped == value.encode()


def test_placeholders_are_filled_once():
    """A login that looks like a placeholder is not one."""
    values = {"login": "{domain}*@b", "local": "{domain}*", "domain": "b"}
    assert fill_filter("(&(mail={login})(d={domain}))", values) == "(&(mail={domain}\\2a@b)(d=b))"
    assert fill_dn("uid={local},dc={domain}", values) == "uid=\\7bdomain\\7d\\2a,dc=b"


@given(st.binary(max_size=300))
def test_an_element_is_read_as_it_was_written(content):
    encoded = octets(content)
    assert header(encoded, 0, len(encoded)) == (4, len(encoded) - len(content), len(encoded))
    assert Reader(encoded).octets() == content
    with pytest.raises(BerError):
        Reader(encoded[:-1]).octets()
