"""Logging in: who a client is, by any mechanism of any protocol.

Invariants:
  1. An account that doesn't exist, or is disabled, is refused like a wrong password: same answer, same work, same
     pause before it.
  2. Who is shut out by the guard hears that, and nothing else is looked at.
  3. A recent login is believed only while what is stored for the account is what it was (``recent``).
  4. ``TryLater`` where the directory can't say; never a refusal.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never
from weakref import WeakKeyDictionary

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import PosthouseError
from posthouse.config.settings import Auth
from posthouse.message.address import lookup_key
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import mechanism
from posthouse.protocols.sasl.steps import (
    Challenge,
    Failure,
    NeedAccount,
    NeedCredentials,
    NeedToken,
    NeedVerify,
    Step,
    Success,
)
from posthouse.runtime.log import log
from posthouse.runtime.measures import LOGINS
from posthouse.services import passwords
from posthouse.services.chain import SQL, Accounts, Chain, Unanswered
from posthouse.services.guard import Guard, ShutOut
from posthouse.services.offers import Offers
from posthouse.services.recent import Verified
from posthouse.services.sources import PasswordSource, TokenSource

FAILURE_SECONDS = 0.5
"""A refusal is not sent earlier than this after the attempt: guessing is slow, and every reason takes as long. The
guard makes it longer."""
CERTIFICATE = "certificate"
ISSUER = "oidc"


@dataclass(slots=True)
class _Attempt:
    """One answer of ours: since when the client has waited, whose secret it was that it sent, and who said so."""

    begun: float
    login: str = ""
    secret: str | None = field(default=None, repr=False)
    account: str = ""
    source: str = SQL


class Login:
    """The logins of one process.

    ``secret``: random bytes, the same in every process of the host (``services.secret``). ``sources``: those of
    ``auth.chain`` besides ``sql``, in any order. All that it is given is closed with it, but for the directory.
    """

    def __init__(
        self,
        accounts: Accounts,
        settings: Auth,
        *,
        hostname: str,
        secret: bytes,
        sources: Sequence[PasswordSource] = (),
        tokens: TokenSource | None = None,
        guard: Guard | None = None,
        clock: Clock | None = None,
        failure_seconds: float = FAILURE_SECONDS,
    ) -> None:
        self._chain = Chain(accounts, settings, sources, secret=secret, clock=clock or SystemClock())
        self._offers = Offers(settings, has_tokens=tokens is not None)
        self._tokens = tokens
        self._guard = guard
        self._hostname = hostname
        self._secret = secret
        self._failure_seconds = failure_seconds
        self._sent: WeakKeyDictionary[ServerMechanism, str] = WeakKeyDictionary()  # tokens that were not good
        passwords.keep_memory_low()

    async def close(self) -> None:
        await self._chain.close()
        if self._tokens is not None:
            await self._tokens.close()
        if self._guard is not None:
            await self._guard.close()

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """What to offer a client."""
        return self._offers.mechanisms(peer)

    def start(self, name: str, peer: Peer) -> ServerMechanism | None:
        """An exchange by the mechanism of that name; None where it is not offered."""
        offered, nonce = self.mechanisms(peer), secrets.token_bytes(18)
        if name.upper() not in offered:
            return None
        exchange = mechanism(
            name, nonce=nonce, secret=self._secret, hostname=self._hostname, peer=peer, offered=offered
        )
        if exchange is not None:
            exchange.name = name.upper()
        return exchange

    async def authenticate(self, exchange: ServerMechanism, step: Step, peer: Peer) -> Challenge | Success | Failure:
        """What follows from a step: a challenge to send, the account's address in Success, or Failure.

        Raises ``TryLater``; the exchange is over then too.
        """
        with _counted(peer, exchange.name or "APOP") as counted:
            answer = await self._authenticate(exchange, step, peer)
            if not isinstance(answer, Challenge):
                counted("succeeded" if isinstance(answer, Success) else "failed")
            return answer

    async def _authenticate(self, exchange: ServerMechanism, step: Step, peer: Peer) -> Challenge | Success | Failure:
        attempt = _Attempt(asyncio.get_running_loop().time())
        while not isinstance(step, Challenge | Success | Failure):
            step = await self._answer(exchange, step, attempt, peer)
        if exchange.login:
            await self._admit_again(exchange.login, peer)
        match step:
            case Challenge():
                return step
            case Success():
                # An exchange may have been held open since its keys were looked up.
                if not await self._chain.may_log_in(attempt.account or lookup_key(step.login), peer):
                    attempt.login = step.login
                    await self._failed(attempt, peer, WRONG.reason)
                    return WRONG
                return Success(self._succeeded(attempt, step.login, peer))
            case Failure():
                attempt.login = exchange.login
                if exchange in self._sent:
                    attempt.source, attempt.secret = ISSUER, self._sent.pop(exchange)
                await self._failed(attempt, peer, step.reason)
                return step

    async def verify(self, login: str, password: str, peer: Peer) -> str | None:
        """The account's address where the password is right, or None. Raises ``TryLater``."""
        with _counted(peer, "password") as counted:
            account = await self._verify(login, password, peer)
            counted("succeeded" if account is not None else "failed")
            return account

    async def _verify(self, login: str, password: str, peer: Peer) -> str | None:
        attempt = _Attempt(asyncio.get_running_loop().time(), login)
        verified = await self._check(attempt, login, password, "", peer)
        await self._admit_again(login, peer)
        if verified is not None:
            return self._succeeded(attempt, login, peer)
        await self._failed(attempt, peer, WRONG.reason)
        return None

    async def _answer(
        self,
        exchange: ServerMechanism,
        step: NeedCredentials | NeedVerify | NeedToken | NeedAccount,
        attempt: _Attempt,
        peer: Peer,
    ) -> Step:
        """What a mechanism asks for."""
        match step:
            case NeedVerify():
                verified = await self._check(attempt, step.login, step.password, step.authzid, peer)
                return exchange.verified(verified is not None)
            case NeedCredentials():
                await self._admit(step.login, peer)
                return exchange.credentials(await self._chain.credentials(step, peer))
            case NeedToken():
                await self._admit(step.login, peer)
                account = await self._token_account(step)
                if account is None:
                    self._sent[exchange] = step.token
                attempt.source, attempt.account = ISSUER, account or ""
                return exchange.verified_as(account)
            case NeedAccount():
                await self._admit(step.login, peer)
                attempt.source, attempt.secret = CERTIFICATE, ""
                return exchange.verified(await self._chain.exists(step.login))
            case _:
                assert_never(step)

    async def _check(self, attempt: _Attempt, login: str, password: str, authzid: str, peer: Peer) -> Verified | None:
        attempt.login, attempt.secret, attempt.source = login, password, self._chain.name
        await self._admit(login, peer)
        try:
            verified = await self._chain.check(login, password, authzid, peer)
        except Unanswered as error:
            await self._pause(attempt, peer, is_counted=error.is_wrong)
            raise
        if verified is not None:
            attempt.account, attempt.source = verified.account, verified.source
        return verified

    async def _token_account(self, step: NeedToken) -> str | None:
        """Whose token that is, if that one may log in: an issuer's users need not be ours, so it has an account."""
        account = await self._tokens.check(step.token, step.login) if self._tokens is not None else None
        return lookup_key(account) if account and await self._chain.exists(account) else None

    async def _admit(self, login: str, peer: Peer) -> None:
        if self._guard is not None:
            await self._guard.admit(peer.address, lookup_key(login))

    async def _admit_again(self, login: str, peer: Peer) -> None:
        """Of many guesses at once, those that come too late hear neither that they are right nor that they are wrong;
        nor does one that began, or is answered, after others have had its address shut out."""
        await self._admit(login, peer)

    def _succeeded(self, attempt: _Attempt, login: str, peer: Peer) -> str:
        key = lookup_key(login)
        account = attempt.account or key
        if self._guard is not None:
            self._guard.succeeded(peer.address, key)
        self._chain.recent.add_place(peer.address, key)
        log.info("login", protocol=peer.protocol, account=account, peer=peer.address, source=attempt.source)
        return account

    async def _failed(self, attempt: _Attempt, peer: Peer, reason: str) -> None:
        log.info(
            "login-failed",
            protocol=peer.protocol,
            login=attempt.login[:255],
            peer=peer.address,
            reason=reason,
            source=attempt.source,
        )
        # What is malformed was no guess.
        await self._pause(attempt, peer, is_counted=reason == WRONG.reason)

    async def _pause(self, attempt: _Attempt, peer: Peer, *, is_counted: bool) -> None:
        """Let the client wait for its refusal."""
        delaying = contextlib.nullcontext() if self._guard is None else self._guard.delaying(peer.address)
        with delaying:  # from now on: of many guesses at once, those that come later are put off
            factor = 1
            if is_counted and self._guard is not None:
                factor = await self._guard.failed(peer.address, lookup_key(attempt.login), attempt.secret)
            until = attempt.begun + self._failure_seconds * factor
            await asyncio.sleep(until - asyncio.get_running_loop().time())


@contextlib.contextmanager
def _counted(peer: Peer, mechanism: str) -> Iterator[Callable[[str], None]]:
    """Count what comes of a login; it is given what counts results, and whatever is raised is one."""
    try:
        yield lambda result: LOGINS.add(peer.protocol, mechanism, result)
    except PosthouseError as error:
        LOGINS.add(peer.protocol, mechanism, "shut_out" if isinstance(error, ShutOut) else "unavailable")
        raise
