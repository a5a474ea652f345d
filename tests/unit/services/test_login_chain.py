"""Logging in by app passwords, with other sources, tokens and certificates, and the guard at the door."""

import asyncio
from dataclasses import replace

import pytest
from tests.unit.services.test_login import ALICE, ARGON2ID, SCRAM, Accounts, account, converse, login_for, run

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth, Settings
from posthouse.config.settings import Guard as Limits
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor, AppPassword, StoredCredentials
from posthouse.protocols.sasl.credentials import ScramKeys
from posthouse.protocols.sasl.md5 import cram_md5_context
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.services import app_passwords, chain, passwords
from posthouse.services.guard import Guard
from posthouse.services.login import Login
from posthouse.services.passwords import new_app_password
from posthouse.services.recent import OTHERS_SECONDS

IMAP = Peer("imap", "192.0.2.1", is_tls=True)
SMTP = Peer("smtp", "192.0.2.1", is_tls=True)
BOB = "bob@example.test"


class Source:
    """Another program with passwords, or without an answer."""

    def __init__(self, name: str, **known: str) -> None:
        self.name = name
        self.known = known
        self.is_down = False
        self.asked = 0

    async def check(self, login: str, password: str, peer: Peer) -> str | None:
        self.asked += 1
        if self.is_down:
            raise TryLater(f"{self.name} does not answer")
        return (
            f"{login.partition('@')[0]}@example.test" if self.known.get(login.partition("@")[0]) == password else None
        )

    async def close(self) -> None:
        self.known.clear()


class Tokens:
    async def check(self, token: str, login: str) -> str | None:
        return ALICE if token == "good" and login in ("", ALICE) else None

    async def close(self) -> None:
        pass


def chain_of(*sources: Source, chain: tuple[str, ...] = ("sql", "pam", "ldap")) -> dict[str, object]:
    return {"settings": Auth(chain=chain), "sources": sources}


def with_app_password(*scopes: str) -> tuple[StoredCredentials, str]:
    password, kept = new_app_password()
    return account(argon2id=ARGON2ID, app_passwords=(AppPassword(7, "phone", frozenset(scopes), kept),)), password


def test_app_password_is_good_for_its_protocols_only():
    row, password = with_app_password("imap", "pop3")
    login, accounts = login_for(row)

    async def attempts() -> list[str | None]:
        return [await login.verify(ALICE, password, peer) for peer in (IMAP, SMTP)]

    assert run(login, attempts()) == [ALICE, None]
    assert accounts.used == [(7, "192.0.2.1")]


def test_removed_app_password_is_good_for_nothing_at_once():
    row, password = with_app_password("imap")
    login, accounts = login_for(row)

    async def attempts() -> list[str | None]:
        answers = [await login.verify(ALICE, password, IMAP)]
        accounts.rows[ALICE] = replace(row, app_passwords=())
        return [*answers, await login.verify(ALICE, password, IMAP)]

    assert run(login, attempts()) == [ALICE, None]


def test_either_password_of_an_account_with_two_sources_logs_in():
    pam = Source("pam", alice="unix")
    login, _ = login_for(account(argon2id=ARGON2ID), **chain_of(pam))

    async def attempts() -> list[str | None]:
        return [await login.verify(ALICE, password, IMAP) for password in ("secret", "unix", "unix", "neither")]

    assert run(login, attempts()) == [ALICE, ALICE, ALICE, None]
    assert pam.asked == 2  # the right one is remembered


def test_what_another_program_said_is_believed_for_minutes():
    pam, clock = Source("pam", alice="unix"), FakeClock()
    login, _ = login_for(account(), **chain_of(pam), clock=clock)

    async def attempts() -> list[str | None]:
        answers = [await login.verify(ALICE, "unix", IMAP)]
        pam.known["alice"] = "changed"
        answers.append(await login.verify(ALICE, "unix", IMAP))
        clock.advance(OTHERS_SECONDS)
        return [*answers, await login.verify(ALICE, "unix", IMAP)]

    assert run(login, attempts()) == [ALICE, ALICE, None]


def test_disabled_account_is_refused_whatever_others_say():
    login, accounts = login_for(account(enabled=False), **chain_of(Source("pam", alice="unix")))

    async def attempts() -> list[str | None]:
        answers = [await login.verify(ALICE, "unix", peer) for peer in (IMAP, SMTP)]
        accounts.rows[ALICE] = account()
        answers.append(await login.verify(ALICE, "unix", IMAP))
        accounts.rows[ALICE] = account(enabled=False)
        return [*answers, await login.verify(ALICE, "unix", IMAP)]

    assert run(login, attempts()) == [None, None, ALICE, None]


def test_who_has_no_row_may_send_mail_and_nothing_else():
    """There is no mailbox to read; ``may_send_as`` lets such a login use its own address only."""
    login, _ = login_for(**chain_of(Source("ldap", bob="secret")))
    protocols = ("smtp", "imap", "pop3", "web", "other")

    async def attempts() -> list[str | None]:
        peers = [Peer(protocol, "192.0.2.1", is_tls=True) for protocol in protocols]
        return [await login.verify("bob", "secret", peer) for peer in peers * 2]

    assert run(login, attempts()) == [BOB, None, None, None, None] * 2


def test_source_that_cannot_be_asked_stops_no_other():
    pam, ldap = Source("pam"), Source("ldap", alice="secret")
    pam.is_down = True
    login, _ = login_for(account(), **chain_of(ldap, pam))

    async def attempts() -> None:
        assert await login.verify(ALICE, "secret", IMAP) == ALICE
        with pytest.raises(TryLater, match="pam does not answer"):
            await login.verify(ALICE, "wrong", IMAP)
        ldap.is_down = True
        assert await login.verify(ALICE, "secret", IMAP) == ALICE

    run(login, attempts())


def test_without_sql_in_the_chain_what_is_stored_lets_nobody_in():
    row = account(clear="stored")
    login, _ = login_for(row, **chain_of(Source("ldap", alice="asked"), chain=("ldap",)))

    async def attempts() -> list[object]:
        answers: list[object] = [await login.verify(ALICE, password, IMAP) for password in ("stored", "asked")]
        return [*answers, await converse(login, "SCRAM-SHA-256", ALICE, "stored")]

    assert run(login, attempts()) == [None, ALICE, Failure("wrong login or password")]


def test_scram_fails_for_accounts_whose_password_only_another_program_knows():
    login, _ = login_for(account(), **chain_of(Source("ldap", alice="secret")))
    assert run(login, converse(login, "SCRAM-SHA-256", ALICE, "secret")) == Failure("wrong login or password")


def test_plain_login_with_another_source_logs_in_as_the_account_it_names():
    login, _ = login_for(account(BOB), **chain_of(Source("pam", bob="secret")))
    assert run(login, converse(login, "PLAIN", "bob", "secret")) == Success(BOB)


@pytest.mark.parametrize(
    ("stored", "mechanisms", "is_upgraded"),
    [
        ("{SSHA}uJDd0BIdJ9Z7yDCZNWdgYeb33+cBAgME", ("PLAIN",), True),
        ("{CRAM-MD5}" + cram_md5_context(b"secret").hex(), ("PLAIN",), True),
        ("{CRAM-MD5}" + cram_md5_context(b"secret").hex(), ("PLAIN", "CRAM-MD5"), False),
        ("{SCRAM-SHA-256}" + SCRAM, ("PLAIN",), False),
        ("{ARGON2ID}" + ARGON2ID, ("PLAIN",), False),
        ("secret", ("PLAIN",), False),
    ],
    ids=["ssha", "cram", "cram-in-use", "scram", "argon2", "plain"],
)
def test_old_hash_is_replaced_after_a_login_where_nothing_is_lost(
    stored: str, mechanisms: tuple[str, ...], is_upgraded: bool
):
    login, accounts = login_for(account(clear=stored), settings=Auth(mechanisms=mechanisms, upgrade_passwords=True))

    async def attempts() -> None:
        assert await login.verify(ALICE, "secret", IMAP) == ALICE
        await login._chain.close()
        row = accounts.rows[ALICE]
        assert (row.clear == "" and row.argon2id != "" and row.scram_sha256 != "") is is_upgraded

    run(login, attempts())
    again, _ = login_for(accounts.rows[ALICE])
    assert run(again, again.verify(ALICE, "secret", IMAP)) == ALICE


def test_failure_to_upgrade_is_no_failure_to_log_in(capsys: pytest.CaptureFixture[str]):
    class Broken(Accounts):
        async def upgrade_password(self, email: str, old_clear: str, scram_sha256: str, argon2id: str) -> None:
            raise TryLater("no database server takes changes")

    row = account(clear="{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")
    login = Login(Broken(row), Auth(upgrade_passwords=True), hostname="mail.example.test", secret=b"k" * 32)
    assert run(login, login.verify(ALICE, "secret", IMAP)) == ALICE
    assert "no database server takes changes" in "".join(capsys.readouterr())


def test_stored_context_serves_cram_md5():
    login, _ = login_for(account(clear="{CRAM-MD5}" + cram_md5_context(b"secret").hex()))

    async def both() -> list[object]:
        return [await converse(login, name, ALICE, "secret") for name in ("CRAM-MD5", "PLAIN")]

    assert run(login, both()) == [Success(ALICE), Success(ALICE)]


def test_scram_of_a_readable_password_is_work_only_where_nobody_has_been(monkeypatch: pytest.MonkeyPatch):
    """How long a challenge takes tells strangers nothing; those who come back need not pay for that."""
    derived: list[str] = []
    real = ScramKeys.derive
    monkeypatch.setattr(chain.ScramKeys, "derive", lambda *args: derived.append(args[0]) or real(*args))
    login, _ = login_for(account(clear="secret"), account(BOB, scram_sha256=SCRAM))

    async def attempts() -> list[int]:
        counts: list[int] = []
        for name in (ALICE, ALICE, BOB, BOB, "nobody@example.test", "nobody@example.test"):
            await converse(login, "SCRAM-SHA-256", name, "secret")
            counts.append(len(derived))
        return counts

    assert run(login, attempts()) == [1, 1, 2, 2, 3, 4]


def bearer(token: str) -> bytes:
    return f"n,,\1auth=Bearer {token}\1\1".encode()


async def oauth(login: Login, token: str) -> object:
    exchange = login.start("OAUTHBEARER", IMAP)
    assert exchange is not None
    outcome = await login.authenticate(exchange, exchange.step(bearer(token)), IMAP)
    if isinstance(outcome, Challenge):
        outcome = await login.authenticate(exchange, exchange.step(b"\1"), IMAP)
    return outcome


def test_token_logs_in_whose_it_is_if_that_account_may():
    settings = Auth(mechanisms=("OAUTHBEARER",))
    for row, token, is_good in (
        (account(), "good", True),
        (account(enabled=False), "good", False),
        (account(), "b", False),
    ):
        login, _ = login_for(row, settings=settings, tokens=Tokens())
        assert (run(login, oauth(login, token)) == Success(ALICE)) is is_good


def test_mechanisms_are_offered_where_they_can_work():
    names = ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "APOP", "PLAIN")
    login, _ = login_for(settings=Auth(mechanisms=names))
    assert login.mechanisms(IMAP) == ("SCRAM-SHA-256", "PLAIN")
    full = Peer("pop3", "192.0.2.1", True, {"tls-exporter": b"x"}, (ALICE,))
    assert login.mechanisms(full) == ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "APOP", "PLAIN")
    with_tokens, _ = login_for(settings=Auth(mechanisms=names), tokens=Tokens())
    assert "OAUTHBEARER" in with_tokens.mechanisms(IMAP)


@pytest.mark.parametrize(("row", "is_good"), [(account(), True), (account(enabled=False), False)])
def test_certificate_logs_in_an_account_that_may(row: StoredCredentials, is_good: bool):
    login, _ = login_for(row, settings=Auth(mechanisms=("EXTERNAL",)))
    peer = Peer("imap", "192.0.2.1", is_tls=True, certificate_emails=(ALICE,))

    async def attempt() -> object:
        exchange = login.start("EXTERNAL", peer)
        assert exchange is not None
        return await login.authenticate(exchange, exchange.step(b""), peer)

    assert (run(login, attempt()) == Success(ALICE)) is is_good


# With the guard


def guarded(tmp_path, *rows: StoredCredentials, **options: object) -> Login:
    clock = FakeClock()
    guard = Guard(f"{tmp_path}/guard.db", Limits(block_after=3, exempt_networks=()), secret=b"k" * 32, clock=clock)
    return login_for(*rows, guard=guard, clock=clock, **options)[0]


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5"])
def test_who_is_shut_out_is_told_so_before_anything_is_checked(tmp_path, name: str):
    login = guarded(tmp_path, account(clear="secret"))

    async def attempts() -> None:
        for number in range(3):
            assert isinstance(await converse(login, name, ALICE, f"wrong{number}"), Failure)
        for password in ("secret", "wrong4"):
            with pytest.raises(TryLater) as error:
                await converse(login, name, ALICE, password)
            assert str(error.value.reply) == (
                "454 4.7.0 Too many failed logins from your address: try again in 15 minutes"
            )
        assert await login.verify(ALICE, "secret", replace(IMAP, address="198.51.100.1")) == ALICE

    run(login, attempts())


def test_telephone_with_an_old_password_is_not_shut_out(tmp_path):
    login = guarded(tmp_path, account(argon2id=ARGON2ID))

    async def attempts() -> list[str | None]:
        return [await login.verify(ALICE, password, IMAP) for password in ("old",) * 6 + ("secret",)]

    assert run(login, attempts()) == [None] * 6 + [ALICE]


def test_malformed_response_is_no_guess(tmp_path):
    login = guarded(tmp_path, account(clear="secret"))

    async def attempts() -> object:
        for _ in range(5):
            exchange = login.start("PLAIN", IMAP)
            assert exchange is not None
            assert isinstance(await login.authenticate(exchange, exchange.step(b"nothing"), IMAP), Failure)
        return await login.verify(ALICE, "secret", IMAP)

    assert run(login, attempts()) == ALICE


def test_of_many_guesses_at_once_one_that_is_right_comes_too_late(tmp_path):
    login = guarded(tmp_path, account(argon2id=ARGON2ID))

    async def attempts() -> list[object]:
        guesses = [f"wrong{number}" for number in range(12)] + ["secret"]
        return await asyncio.gather(*(login.verify(ALICE, each, IMAP) for each in guesses), return_exceptions=True)

    answers = run(login, attempts())
    assert isinstance(answers, list)
    assert ALICE not in answers


def test_guesses_count_while_another_source_is_away(tmp_path):
    """Otherwise an LDAP server's outage would be the time to guess what the directory stores."""
    ldap = Source("ldap")
    ldap.is_down = True
    login = guarded(tmp_path, account(clear="secret"), **chain_of(ldap))

    async def attempts() -> None:
        for number in range(3):
            with pytest.raises(TryLater, match="ldap does not answer"):
                await login.verify(ALICE, f"wrong{number}", IMAP)
        with pytest.raises(TryLater, match="shut out"):
            await login.verify(ALICE, "secret", IMAP)

    run(login, attempts())


def test_log_names_who_said_so(tmp_path, capsys: pytest.CaptureFixture[str]):
    login, _ = login_for(account(), **chain_of(Source("ldap", alice="secret")))

    async def attempts() -> None:
        await login.verify(ALICE, "secret", IMAP)
        await login.verify(ALICE, "wrong", IMAP)

    run(login, attempts())
    right, wrong = [line for line in "".join(capsys.readouterr()).splitlines() if "login" in line]
    assert "source" in right
    assert "ldap" in right
    assert "sql,ldap" in wrong


def test_use_of_an_app_password_and_a_better_hash_reach_the_directory(tmp_path):
    """Against a real database: the faces that the fake above has are the directory's own."""
    settings = Settings(hostname="mail.example.test", data_dir=str(tmp_path), auth=Auth(upgrade_passwords=True))
    old = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="

    async def work() -> None:
        directory = Directory(settings)
        await directory.open()
        columns = "(email, clear, maildir, postfix)"
        directory.database.connection.execute(  # type: ignore[attr-defined]
            f"INSERT INTO users {columns} VALUES (?, ?, 'example.test/alice/', 'y')", (ALICE, old)
        )
        directory.database.connection.commit()  # type: ignore[attr-defined]
        actor = Actor("test")
        app_password = await app_passwords.add(directory, ALICE, "phone", ["imap"], actor=actor)
        login = Login(directory, settings.auth, hostname="mail.example.test", secret=b"k" * 32)
        try:
            assert await login.verify(ALICE, app_password, IMAP) == ALICE
            assert await login.verify(ALICE, "secret", IMAP) == ALICE
        finally:
            await login.close()
        (used,) = await app_passwords.listing(directory, ALICE, actor=actor)
        assert used.last_peer == IMAP.address
        stored = await directory.credentials(ALICE)
        assert stored is not None
        assert stored.clear == ""
        assert passwords.verify("{ARGON2ID}" + stored.argon2id, "secret")
        await directory.close()

    asyncio.run(work())


def test_another_program_lets_in_nobody_of_a_disabled_domain():
    login, accounts = login_for(**chain_of(Source("ldap", bob="secret")))
    accounts.off.add("example.test")

    async def try_it() -> list[str | None]:
        before = await login.verify(BOB, "secret", SMTP)
        accounts.off.clear()
        return [before, await login.verify(BOB, "secret", SMTP)]

    assert run(login, try_it()) == [None, BOB]
