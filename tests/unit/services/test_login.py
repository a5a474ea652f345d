"""Logging in, against accounts in memory."""

import asyncio
import base64
import re
import time
from collections.abc import Coroutine
from dataclasses import replace

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth
from posthouse.directory.model import AppPassword, StoredCredentials
from posthouse.protocols.sasl import client
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import ServerMechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.services import passwords
from posthouse.services.login import Login
from posthouse.services.passwords import new_secrets
from posthouse.services.secret import host_secret

SCRAM, ARGON2ID = new_secrets("secret")
ALICE = "alice@example.test"
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-SHA1", "CRAM-MD5", "PLAIN", "LOGIN")
PEER = Peer("smtp", "192.0.2.1", is_tls=True)


class Accounts:
    """A directory that holds a few accounts, or can't answer."""

    def __init__(self, *rows: StoredCredentials) -> None:
        self.rows = {row.email: row for row in rows}
        self.is_down = False
        self.off: set[str] = set()
        self.used: list[tuple[int, str]] = []

    async def credentials(self, email: str) -> StoredCredentials | None:
        if self.is_down:
            raise TryLater("no database server answers")
        email.encode()  # as any database driver does
        return self.rows.get(email)

    async def upgrade_password(self, email: str, old_clear: str, scram_sha256: str, argon2id: str) -> None:
        if self.rows[email].clear == old_clear:
            self.rows[email] = replace(self.rows[email], clear="", scram_sha256=scram_sha256, argon2id=argon2id)

    async def is_disabled(self, domain: str) -> bool:
        return domain in self.off

    async def used_app_password(self, id: int, peer_address: str) -> None:  # noqa: A002
        self.used.append((id, peer_address))


def account(email: str = ALICE, **columns: object) -> StoredCredentials:
    return replace(StoredCredentials(email, "", "", "", True), **columns)  # type: ignore[arg-type]


def login_for(*rows: StoredCredentials, **options: object) -> tuple[Login, Accounts]:
    accounts = Accounts(*rows)
    options = {"settings": Auth(mechanisms=MECHANISMS), "clock": FakeClock(), "failure_seconds": 0.0} | options
    return Login(accounts, hostname="mail.example.test", secret=b"k" * 32, **options), accounts  # type: ignore[arg-type]


async def converse(login: Login, name: str, user: str, password: str) -> Success | Failure:
    """A client logs in by a mechanism, to its end."""
    exchange, ours = login.start(name, PEER), client.mechanism(name, user, password, nonce=b"c" * 18)
    assert exchange is not None
    assert ours is not None
    response = ours.initial()
    while True:
        outcome = await login.authenticate(exchange, exchange.step(response), PEER)
        if not isinstance(outcome, Challenge):
            return outcome
        response = ours.respond(outcome.data)


def run(login: Login, coroutine: Coroutine[object, object, object]) -> object:
    async def to_the_end() -> object:
        try:
            return await coroutine
        finally:
            await login.close()

    return asyncio.run(to_the_end())


@pytest.mark.parametrize("name", MECHANISMS)
def test_right_password_in_clear_logs_in_by_every_mechanism(name: str):
    login, _ = login_for(account(clear="secret"))
    assert run(login, converse(login, name, "Alice@EXAMPLE.test", "secret")) == Success(ALICE)


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_right_password_logs_in_without_a_readable_one(name: str):
    login, _ = login_for(account(scram_sha256=SCRAM, argon2id=ARGON2ID))
    assert run(login, converse(login, name, ALICE, "secret")) == Success(ALICE)


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize(
    "row",
    [
        account(clear="other"),
        account(clear="{ROT13}frperg"),
        account(clear="{SCRAM-SHA-256}broken"),
        account(scram_sha256="broken", argon2id="broken"),
        account(clear="secret", enabled=False),
        account(scram_sha256=SCRAM, argon2id=ARGON2ID, enabled=False),
        account(clear="other", scram_sha256=SCRAM, argon2id=ARGON2ID),
        account(),
        account("bob@example.test", clear="secret"),
    ],
    ids=["wrong", "scheme", "broken", "broken-keys", "disabled", "disabled-hash", "old-hash", "empty", "unknown"],
)
def test_whatever_is_wrong_the_failure_is_the_same(name: str, row: StoredCredentials):
    login, _ = login_for(row)
    assert run(login, converse(login, name, ALICE, "secret")) == Failure("wrong login or password")


def test_scram_keys_in_the_clear_column_serve_scram_and_plain():
    login, _ = login_for(account(clear="{SCRAM-SHA-256}" + SCRAM))

    async def both() -> list[object]:
        return [await converse(login, name, ALICE, "secret") for name in ("SCRAM-SHA-256", "PLAIN")]

    assert run(login, both()) == [Success(ALICE), Success(ALICE)]


def test_scram_challenge_does_not_tell_whether_an_account_exists():
    """RFC 5802 §5.1: same form, same salt each time, same number of iterations, in every process of the host."""
    challenges: list[bytes] = []
    for rows in ([account(clear="secret")], [], []):
        login, _ = login_for(*rows)
        exchange = login.start("SCRAM-SHA-256", PEER)
        assert exchange is not None
        outcome = run(login, login.authenticate(exchange, exchange.step(f"n,,n={ALICE},r=abc".encode()), PEER))
        assert isinstance(outcome, Challenge)
        challenges.append(re.sub(rb"^r=[^,]+,", b"", outcome.data))
    assert len(set(challenges)) == 1


def plain_exchange(login: Login, message: bytes) -> object:
    exchange = login.start("plain", PEER)
    assert exchange is not None
    return run(login, login.authenticate(exchange, exchange.step(message), PEER))


def test_nobody_acts_for_somebody_else():
    """RFC 4616 §2: the authorization identity; ours may only be the login's own."""
    row = account(clear="secret")
    assert plain_exchange(login_for(row)[0], b"ALICE@example.test\0alice@example.test\0secret") == Success(ALICE)
    outcome = plain_exchange(login_for(row)[0], b"bob@example.test\0alice@example.test\0secret")
    assert outcome == Failure("wrong login or password")


def test_verify_answers_with_the_account_or_none():
    login, _ = login_for(account(argon2id=ARGON2ID))

    async def attempts() -> list[str | None]:
        return [
            await login.verify("ALICE@Example.Test", "secret", PEER),
            await login.verify(ALICE, "Secret", PEER),
            await login.verify("bob@example.test", "secret", PEER),
            await login.verify("", "", PEER),
            await login.verify(ALICE, "secret\0", PEER),
            await login.verify(ALICE, "x" * 100_000, PEER),
            await login.verify("\udcff@\udcff", "\udcff", PEER),
        ]

    assert run(login, attempts()) == [ALICE, None, None, None, None, None, None]


@pytest.mark.parametrize("name", MECHANISMS)
def test_directory_that_cannot_answer_is_no_refusal(name: str):
    login, accounts = login_for(account(clear="secret"))
    accounts.is_down = True
    with pytest.raises(TryLater):
        run(login, converse(login, name, ALICE, "secret"))


def test_second_login_does_not_pay_for_the_hash(monkeypatch: pytest.MonkeyPatch):
    login, _ = login_for(account(argon2id=ARGON2ID))
    checks: list[str] = []
    real = passwords.verify
    monkeypatch.setattr(passwords, "verify", lambda *args, **kwargs: checks.append("") or real(*args, **kwargs))

    async def attempts() -> list[str | None]:
        return [await login.verify(ALICE, password, PEER) for password in ("secret", "secret", "wrong")]

    assert run(login, attempts()) == [ALICE, ALICE, None]
    assert len(checks) == 2


def test_recent_login_ends_when_the_password_is_changed_or_the_account_disabled():
    row = account(argon2id=ARGON2ID)
    login, accounts = login_for(row)

    async def attempts() -> list[str | None]:
        answers = [await login.verify(ALICE, "secret", PEER)]
        for changed in (account(argon2id=new_secrets("new")[1]), account(clear="new"), replace(row, enabled=False)):
            accounts.rows[ALICE] = changed
            answers.append(await login.verify(ALICE, "secret", PEER))
        return answers

    assert run(login, attempts()) == [ALICE, None, None, None]


def test_too_many_waiting_logins_are_put_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("posthouse.services.chain.MAX_WAITING", 3)
    login, _ = login_for(account(argon2id=ARGON2ID))

    async def flood() -> list[object]:
        attempts = (login.verify(ALICE, "secret", PEER) for _ in range(6))
        return await asyncio.gather(*attempts, return_exceptions=True)

    answers = run(login, flood())
    assert isinstance(answers, list)
    assert answers[:3] == [ALICE] * 3
    assert all(isinstance(answer, TryLater) for answer in answers[3:])


def test_refusal_waits():
    login, _ = login_for(failure_seconds=0.2)
    before = time.monotonic()
    assert run(login, login.verify(ALICE, "secret", PEER)) is None
    assert time.monotonic() - before >= 0.2


@pytest.mark.parametrize(
    ("is_tls", "peer", "is_offered"),
    [
        (True, "192.0.2.1", True),
        (False, "192.0.2.1", False),
        (False, "127.0.0.1", True),
        (False, "::1", True),
        (False, "10.1.2.3", True),
        (False, "unix", True),
        (False, "somewhere", False),
        (False, "", False),
    ],
)
def test_no_mechanism_without_tls_but_from_trusted_networks(is_tls: bool, peer: str, is_offered: bool):
    login, _ = login_for(
        settings=Auth(mechanisms=MECHANISMS, trusted_networks=("127.0.0.0/8", "::1/128", "10.1.2.0/24"))
    )
    assert login.mechanisms(Peer("imap", peer, is_tls)) == (MECHANISMS if is_offered else ())


def test_cram_md5_is_only_offered_where_it_is_asked_for():
    """curl and others choose it over PLAIN, and then fail on every account without a readable password."""
    login, _ = login_for(settings=Auth())
    assert login.mechanisms(Peer("imap", "unix", is_tls=True)) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert login.start("CRAM-MD5", PEER) is None


def test_only_known_mechanisms_start():
    login, _ = login_for()
    assert isinstance(login.start("plain", PEER), ServerMechanism)
    assert login.start("GSSAPI", PEER) is None


def test_bare_crypt_string_counts_only_if_configured():
    crypt = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    for is_on in (True, False):
        login, _ = login_for(account(clear=crypt), settings=Auth(plain_crypt=is_on))
        assert run(login, login.verify(ALICE, "Hello world!", PEER)) == (ALICE if is_on else None)


def test_failed_login_is_logged_without_its_password(capsys: pytest.CaptureFixture[str]):
    login, _ = login_for()
    run(login, converse(login, "PLAIN", "mallory@example.test", "hunter2"))
    printed = "".join(capsys.readouterr())
    assert "login-failed" in printed
    assert "mallory@example.test" in printed
    assert "192.0.2.1" in printed
    assert "hunter2" not in printed
    assert base64.b64encode(b"hunter2").decode() not in printed


def test_host_secret_is_made_once(tmp_path):
    path = f"{tmp_path}/secret"
    made = host_secret(path)
    assert len(made) == 32
    assert host_secret(path) == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_torn_host_secret_is_named(tmp_path):
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(OSError, match="shorter than 32"):
        host_secret(f"{tmp_path}/secret")


def test_an_exchange_held_open_while_the_account_is_disabled_lets_nobody_in():
    login, accounts = login_for(account(scram_sha256=SCRAM, argon2id=ARGON2ID))

    async def hold_it_open() -> list[object]:
        exchange, ours = (
            login.start("SCRAM-SHA-256", PEER),
            client.mechanism("SCRAM-SHA-256", ALICE, "secret", nonce=b"c" * 18),
        )
        assert exchange is not None
        assert ours is not None
        first = await login.authenticate(exchange, exchange.step(ours.initial()), PEER)
        assert isinstance(first, Challenge)
        final = await login.authenticate(exchange, exchange.step(ours.respond(first.data)), PEER)
        accounts.rows[ALICE] = replace(accounts.rows[ALICE], enabled=False)
        return [final, await login.authenticate(exchange, exchange.step(b""), PEER)]

    final, outcome = run(login, hold_it_open())
    assert isinstance(final, Challenge)
    assert isinstance(outcome, Failure)


def test_what_is_stored_is_in_no_repr():
    text = repr(
        account(
            clear="secret",
            scram_sha256=SCRAM,
            argon2id=ARGON2ID,
            app_passwords=(AppPassword(1, "phone", frozenset({"imap"}), "{SHA256}hash"),),
        )
    )
    assert not [part for part in ("secret", SCRAM, ARGON2ID, "{SHA256}hash") if part in text]
