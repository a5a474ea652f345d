"""LDAP servers that misbehave; how a real one is asked is in tests/interop/test_login_sources.py."""

import asyncio

import pytest

from posthouse.base.errors import TryLater
from posthouse.config.settings import Ldap, Settings
from posthouse.protocols.ldap.ber import ENUMERATED, SEQUENCE, element, integer, octets
from posthouse.protocols.sasl.peer import Peer
from posthouse.services.ldap import LdapSource, Server

PEER = Peer("imap", "192.0.2.1")


def result(message_id, tag, code, text=b"", more=b""):
    content = integer(code, ENUMERATED) + octets(b"") + octets(text) + more
    return element(SEQUENCE, integer(message_id) + element(tag, content))


def check(answers, login="a@example.test", **changes):
    """What comes of a server that gives these answers, whatever it is asked; and what it was asked."""
    asked = []

    async def serve(reader, writer):
        for answer in answers:
            asked.append(await reader.read(10_000))
            writer.write(answer)
        writer.close()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ldap = Ldap(**{"urls": (url,), "user_dn": "mail={login}", **changes})
            source = LdapSource(Settings(hostname="mail.example.test", ldap=ldap), seconds=30, is_local=is_local)
            return await source.check(login, "secret", PEER)

    is_local = changes.pop("is_local", None)
    return asyncio.run(run()), asked


def test_only_one_answer_is_a_no():
    assert check([result(1, 0x61, 0)])[0] == "a@example.test"
    assert check([result(1, 0x61, 49)])[0] is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the server closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no LDAP: the message is no sequence"),
        (result(1, 0x61, 52, b"going down"), "no server answers: .*code 52 going down"),
        (result(1, 0x61, 10, more=element(0xA3, octets(b"ldap://other"))), "referred to ldap://other"),
        (result(1, 0x61, 8, b"TLS first"), "bind as mail=a@example.test: code 8 TLS first"),
        (result(0, 0x78, 52, b"bye"), "the server ends the session: code 52 bye"),
        (result(2, 0x61, 0), "answers nothing that was asked"),
    ],
    ids=range(7),
)
def test_whatever_else_a_server_says_is_trouble(answer, reason):
    with pytest.raises(TryLater, match=reason):
        check([answer])


def test_no_password_is_sent_to_a_server_that_wants_no_tls():
    with pytest.raises(TryLater, match="no StartTLS: code 2 not here"):
        check([result(1, 0x78, 2, b"not here")], is_local=lambda _host: False)


def test_a_yes_slipped_in_before_tls_is_not_heard():
    """What came in clear after the go-ahead is neither TLS nor an answer."""
    with pytest.raises(TryLater, match=r"TLS handshake failed|the peer|Connection|EOF|lost"):
        check([result(1, 0x78, 0) + result(2, 0x61, 0)], is_local=lambda _host: False)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("ldap://ldap.example.org", ("ldap", "ldap.example.org", 389, "")),
        ("ldaps://ldap.example.org/", ("ldaps", "ldap.example.org", 636, "")),
        ("ldaps://127.0.0.1:6360", ("ldaps", "127.0.0.1", 6360, "")),
        ("ldap://[::1]", ("ldap", "::1", 389, "")),
        ("ldap://[2001:db8::1]:3890/", ("ldap", "2001:db8::1", 3890, "")),
        ("ldapi:///run/slapd/ldapi", ("ldapi", "", 0, "/run/slapd/ldapi")),
        ("ldapi:///%2frun%2fldapi", ("ldapi", "", 0, "//run/ldapi")),
    ],
)
def test_a_url_names_a_server(url, server):
    parsed = Server.parse(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path) == server


@pytest.mark.parametrize(
    "login",
    [
        "a@other.test",
        "a",
        "",
        "a b@example.test",
        "a@example.test\0",
        "\udcff@example.test",
        # Other spellings of a@example.test, each of which would be an account of its own to the guard.
        "@x.test:a@example.test",
        '"a"@example.test',
        r'"\a"@example.test',
        "\uff41@example.test",
        "a\u00ad@example.test",
    ],
)
def test_nobody_is_asked_about_what_is_no_address_of_its_domains(login):
    assert check([b"never"], login, domains=("example.test",)) == (None, [])
