"""Passwords that others know: OpenLDAP's server, the real PAM, and a whole server that asks all of them in turn."""

import asyncio
import contextlib
import imaplib
import os
import shutil
import socket
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.interop.house import House, run
from tests.interop.slapd import Slapd
from tests.ports import free_port
from tests.unit.services.issuer import AUDIENCE, issuer

from posthouse.base.errors import TryLater
from posthouse.config.settings import Ldap, Settings
from posthouse.protocols.sasl.peer import Peer
from posthouse.services.ldap import LdapSource
from posthouse.services.pam import PamSource

PEER = Peer("imap", "192.0.2.1", is_tls=True)
PEOPLE = [
    ("alice", "alice@example.test", "alice-secret"),
    ("o\\2cconnor\\2bx", "o.connor@example.test", "o-secret"),
    ("twin1", "twins@example.test", "twin-secret"),
    ("twin2", "twins@example.test", "twin-secret"),
]


@pytest.fixture(scope="module")
def slapd(need, tmp_path_factory):
    with Slapd(need("slapd"), tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def settings(slapd, tmp_path):
    (tmp_path / "reader").write_text("reader-secret\n")
    ldap = Ldap(
        urls=(slapd.urls["ldaps"],),
        ca=str(slapd.place / "ca.pem"),
        base="ou=people,dc=example,dc=test",
        bind_dn="cn=reader,dc=example,dc=test",
        bind_password_file="reader",
    )
    return Settings(hostname="mail.example.test", data_dir=str(tmp_path), ldap=ldap)


def check(settings, login, password, *, seconds=30.0, is_local=None, **changes):
    changed = replace(settings, ldap=replace(settings.ldap, **changes))
    source = LdapSource(changed, seconds=seconds, is_local=is_local)
    return asyncio.run(source.check(login, password, PEER))


def everywhere(_host):
    return False


@pytest.mark.parametrize("scheme", ["ldap", "ldaps", "ldapi"])
def test_a_password_is_right_where_the_directory_lets_its_user_in(settings, slapd, scheme):
    urls = (slapd.urls[scheme],)
    assert check(settings, "Alice@Example.test", "alice-secret", urls=urls) == "alice@example.test"
    assert check(settings, "alice@example.test", "Alice-secret", urls=urls) is None
    assert check(settings, "nobody@example.test", "alice-secret", urls=urls) is None


def test_a_connection_is_encrypted_before_anything_is_said(settings, slapd):
    plain = {"urls": (slapd.urls["ldap"],), "is_local": everywhere}
    assert check(settings, "alice@example.test", "alice-secret", **plain) == "alice@example.test"
    with pytest.raises(TryLater, match=r"certificate verify failed|TLS handshake failed"):
        check(settings, "alice@example.test", "alice-secret", ca="", **plain)


def test_a_server_has_to_be_whom_its_certificate_says(settings, slapd):
    with pytest.raises(TryLater, match=r"127\.0\.0\.2"):
        check(settings, "a@b.test", "x", urls=(f"ldaps://127.0.0.2:{slapd.tls_port}",))
    with pytest.raises(TryLater, match="certificate verify failed"):
        check(settings, "a@b.test", "x", ca="")
    with pytest.raises(TryLater, match=r"ldap.ca: .*/none.pem: No such file"):
        check(settings, "a@b.test", "x", ca="none.pem")


def test_an_entrys_name_may_follow_from_the_login(settings):
    names = {"user_dn": "uid={local},ou=people,dc=example,dc=test", "domains": ("example.test",), "bind_dn": ""}
    assert check(settings, "alice@example.test", "alice-secret", **names) == "alice@example.test"
    assert check(settings, "alice@example.test", "wrong", **names) is None
    assert check(settings, "nobody@example.test", "wrong", **names) is None
    assert check(settings, '"o,connor+x"@example.test', "o-secret", **names) is None  # the quotes belong to the name
    assert check(settings, "o.connor@example.test", "o-secret") == "o.connor@example.test"
    # Another domain's alice is somebody else.
    assert check(settings, "alice@other.test", "alice-secret", **names) is None
    assert check(settings, "alice", "alice-secret", **names) is None


@pytest.mark.parametrize(
    "login",
    [
        "*@example.test",
        "a*@example.test",
        "alice@example.test)(mail=*",
        '"*)(uid=alice"@example.test',
        "alice@example.test ",
        "alice\0@example.test",
        "\udcff@example.test",
        "",
        "@",
        "alice@example.test,ou=people",
    ],
)
def test_a_login_is_a_value_whatever_it_is(settings, login):
    assert check(settings, login, "alice-secret") is None
    assert check(settings, login, "alice-secret", user_dn="mail={login},ou=people,dc=example,dc=test") is None


def test_an_empty_password_is_never_right(settings):
    """RFC 4513 §5.1.2: the server would say yes to it."""
    assert check(settings, "alice@example.test", "") is None
    assert check(settings, "alice@example.test", "\udcff") is None


def test_servers_are_asked_in_turn_until_one_answers(settings, slapd):
    """One is not there, and one takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = [f"ldap://127.0.0.1:{port}" for port in (free_port(), silent.getsockname()[1])]
        source = LdapSource(
            replace(settings, ldap=replace(settings.ldap, urls=(*urls, slapd.urls["ldap"]))), seconds=4
        )

        async def two():
            first = await source.check("alice@example.test", "alice-secret", PEER)
            async with asyncio.timeout(1.0):  # those that did not answer are asked last now
                return first, await source.check("alice@example.test", "alice-secret", PEER)

        assert asyncio.run(two()) == ("alice@example.test", "alice@example.test")
        with pytest.raises(TryLater, match=r"no server answers|no answer within"):
            check(settings, "alice@example.test", "alice-secret", urls=tuple(urls), seconds=0.2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bind_dn": "cn=nobody,dc=example,dc=test"}, "bind as ldap.bind_dn, cn=nobody.*code 49"),
        ({"bind_password_file": "none"}, "ldap.bind_password_file: .*/none: No such file"),
        ({"base": "dc=nowhere"}, "search below dc=nowhere: code 32"),
        ({"base": "ou=elsewhere,dc=example,dc=test"}, "referred to ldap://127.0.0.9"),
        ({"base": "dc=example,dc=test", "filter": "(uid=missing)"}, "may be at ldap://127.0.0.9"),
        ({"filter": "(mail={login}"}, r"ldap.filter: '\)' has to be at"),
        ({"filter": "(uid=twin*)"}, "matches several entries"),
        ({"user_dn": "{local}"}, "bind as alice: code 34"),
    ],
    ids=range(8),
)
def test_what_is_no_no_is_trouble(settings, changes, reason):
    with pytest.raises(TryLater, match=reason):
        check(settings, "alice@example.test", "alice-secret", **changes)


CONFIGURATION = """
[auth]
chain = ["sql", "pam", "ldap"]
mechanisms = ["PLAIN", "LOGIN", "OAUTHBEARER"]

[pam]
service = "{service}"

[ldap]
urls = ["{ldap}"]
user_dn = "uid={{local}},ou=people,dc=example,dc=test"
domains = ["example.test"]

[oidc]
issuer = "{issuer}"
audience = "{audience}"
"""


@pytest.fixture(scope="module")
def joe():
    """A Unix user of this machine with the password ``joe-secret``, for as long as these tests run."""
    if os.geteuid() != 0:
        pytest.skip("only root can add a Unix user")
    name = f"posthouse-t{os.getpid() % 100_000}"
    run("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
    try:
        run("chpasswd", stdin=f"{name}:joe-secret\n")
        yield name
    finally:
        run("userdel", name)


@pytest.fixture(scope="module")
def house(slapd, joe):
    """A server that serves as nobody and asks everybody: SQL, PAM, LDAP, and an issuer of tokens."""
    place = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    place.chmod(0o755)
    service = Path("/etc/pam.d", joe)
    service.write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
    with issuer() as realm:
        ldap = slapd.urls["ldap"]
        house = House(place, CONFIGURATION.format(service=joe, ldap=ldap, issuer=realm.url, audience=AUDIENCE))
        house.configuration.write_text(f'user = "nobody"\n{house.configuration.read_text()}')
        house.realm = realm
        try:
            house.cli("domain", "add", "example.test")
            house.add_account("alice@example.test", "alice-in-sql")
            house.start()
            yield house
        finally:
            service.unlink()
            code = house.stop()
            shutil.rmtree(place)
        assert code == 0


def test_a_unix_users_password_is_asked_of_pam_by_a_process_that_is_root(house, joe):
    source = PamSource(str(house.data / "pam.sock"), "mail.example.test")

    def ask(login, password):
        return asyncio.run(source.check(login, password, PEER))

    assert ask(joe, "joe-secret") == f"{joe}@mail.example.test"
    assert ask(f"{joe}@localhost", "joe-secret") == f"{joe}@mail.example.test"
    assert ask(joe, "Joe-secret") is None
    assert ask("root", "joe-secret") is None
    assert ask("nobody-has-this-name", "joe-secret") is None
    run("usermod", "--expiredate", "1", joe)  # the password is right, and the user may not log in
    try:
        assert ask(joe, "joe-secret") is None
    finally:
        run("usermod", "--expiredate", "", joe)


def imap_login(house, login, password):
    """Whether IMAP lets them in; None where it says that it can't tell now."""
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"], timeout=30) as session:
        try:
            session.login(login, password)
        except imaplib.IMAP4.error as error:
            return None if "UNAVAILABLE" in str(error) else False
        return True


def test_a_server_asks_sql_then_pam_then_ldap(house, joe):
    """And a Unix user who also has a row can log in with either password."""
    with contextlib.closing(sqlite3.connect(house.data / "posthouse.db", timeout=30)) as database, database:
        row = (f"{joe}@mail.example.test", "joe-in-sql", f"mail.example.test/{joe}/")
        database.execute("INSERT INTO users (email, clear, maildir) VALUES (?, ?, ?)", row)
    assert imap_login(house, "alice@example.test", "alice-in-sql")
    assert imap_login(house, "alice@example.test", "alice-secret")  # LDAP's
    assert imap_login(house, "alice@example.test", "joe-secret") is False
    assert imap_login(house, f"{joe}@mail.example.test", "joe-in-sql")
    assert imap_login(house, f"{joe}@mail.example.test", "joe-secret")  # PAM's
    assert imap_login(house, f"{joe}@example.test", "joe-secret") is False
    # LDAP knows the twins, but they have no account here.
    assert imap_login(house, "twin1@example.test", "twin-secret") is False
    text = house.log_file.read_text()
    assert not [secret for secret in ("alice-secret", "joe-secret", "alice-in-sql") if secret in text]


def test_an_account_that_is_disabled_is_so_for_every_source(house):
    house.add_account("o@example.test", "in-sql")
    with contextlib.closing(sqlite3.connect(house.data / "posthouse.db", timeout=30)) as database, database:
        database.execute(
            "UPDATE users SET email = 'twin2@example.test', postfix = 'n' WHERE email = 'o@example.test'"
        )
    assert imap_login(house, "twin2@example.test", "twin-secret") is False


def test_a_server_takes_an_issuers_tokens(house):
    def log_in(token, login="alice@example.test"):
        with imaplib.IMAP4("127.0.0.1", house.ports["imap"], timeout=30) as session:
            message = f"n,a={login},\x01auth=Bearer {token}\x01\x01".encode()
            try:
                session.authenticate("OAUTHBEARER", lambda challenge: b"\x01" if challenge else message)
            except imaplib.IMAP4.error:
                return False
            return True

    assert log_in(house.realm.token())
    assert not log_in(house.realm.token(exp=1))
    assert not log_in(house.realm.token(email="bob@example.test"))
