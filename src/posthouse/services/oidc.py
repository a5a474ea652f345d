"""Access tokens of an OpenID Connect issuer, in place of a password (OAUTHBEARER, XOAUTH2).

A token that is a JWT is verified here, with the issuer's keys; about any other the issuer is asked (RFC 7662).

Invariants:
  1. What the issuer says is fetched from its own URL over TLS, with limits of time and size, and kept: while it is
     down, its last good keys go on being used.
  2. An unknown key makes us ask for new ones once a minute at most, whoever sends what.
  3. The issuer's trouble, or ours, is ``TryLater``; never a no.
  4. A token is good for the one account that it names. None is kept but as a hash, none is logged.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple
from urllib.parse import quote, urlencode

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.message.address import lookup_key, parse_path
from posthouse.runtime.https import FetchError, fetch_json, is_acceptable
from posthouse.runtime.log import log

if TYPE_CHECKING:
    from posthouse.services.jwt import TokenKeys

FETCH_SECONDS = 5.0
SECONDS = 12.0
KEYS_SECONDS = 3600.0
REFETCH_SECONDS = 60.0
FIRST_RETRY_SECONDS = 5.0
LEEWAY_SECONDS = 60.0
ACTIVE_SECONDS = 60.0
MAX_TOKEN = 16_384
_MAX_ACTIVE = 10_000
_THREADS = 2

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Issuer:
    """What an issuer says of itself (OpenID Connect Discovery 1.0 §4), and its keys."""

    introspection_endpoint: str
    keys: "TokenKeys"


class OidcTokens:
    """A ``TokenSource``. ``fetch_seconds``: for one document."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        seconds: float = SECONDS,
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._settings = settings
        self._oidc = settings.oidc
        self._clock = clock or SystemClock()
        self._seconds = seconds
        self._fetch_seconds = fetch_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="oidc")
        self._fetching = asyncio.Lock()
        self._issuer: Issuer | None = None
        self._fetched = 0.0
        self._tried: float | None = None
        self._trouble = ""
        self._active: dict[bytes, tuple[float, Claims]] = {}  # oldest first

    async def check(self, token: str, login: str) -> str | None:
        """The account that the token is for, where it is good, and ``login`` empty or the same."""
        if not token or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable():
            return None
        try:
            async with asyncio.timeout(self._seconds):
                claims = await self._claims(token)
        except TimeoutError:
            raise TryLater(f"OIDC: no answer within {self._seconds:g} s") from None
        if claims is None:
            return None
        account = self._account(claims)
        if account is None or (login and lookup_key(login) != account):
            log.info("token-refused", login=login[:255], reason="it names no account, or another one")
            return None
        return account

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _claims(self, token: str) -> Claims | None:
        """What a good token says."""
        from posthouse.services.jwt import header_of

        is_jwt = bool(self._oidc.audience) and header_of(token) is not None
        if is_jwt:
            claims = await self._verified(token)
        elif self._oidc.client_id:
            claims = await self._introspected(token)
        else:
            return None
        reason = self._wrong(claims, introspected=not is_jwt) if claims is not None else ""
        if reason:
            log.info("token-refused", reason=reason)
        return None if reason else claims

    async def _verified(self, token: str) -> Claims | None:
        """The claims of a JWT that the issuer has signed."""
        from posthouse.services.jwt import TokenError, UnknownKeyError

        try:
            try:
                return await self._in_thread((await self._issuer_now()).keys.claims, token)
            except UnknownKeyError:
                return await self._in_thread((await self._issuer_now(new_keys=True)).keys.claims, token)
        except TokenError as error:
            log.info("token-refused", reason=str(error))
            return None

    async def _introspected(self, token: str) -> Claims | None:
        """What the issuer says of a token (RFC 7662 §2)."""
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock.monotonic()
        expiry, claims = self._active.get(digest, (0.0, {}))
        if expiry > now:
            return claims
        endpoint = (await self._issuer_now()).introspection_endpoint
        if not endpoint:
            raise TryLater(f"OIDC: {self._oidc.issuer} names no introspection_endpoint: leave oidc.client_id empty")
        try:
            claims = await self._in_thread(self._ask, endpoint, token)
        except FetchError as error:
            raise TryLater(f"OIDC: {error}") from None
        if claims.get("active") is not True:
            return None
        self._keep(digest, now, claims)
        return claims

    def _keep(self, digest: bytes, now: float, claims: Claims) -> None:
        seconds, exp = ACTIVE_SECONDS, claims.get("exp")
        if isinstance(exp, int | float):
            seconds = min(seconds, exp - self._clock.now().timestamp())
        self._active.pop(digest, None)
        while self._active and (len(self._active) >= _MAX_ACTIVE or next(iter(self._active.values()))[0] <= now):
            del self._active[next(iter(self._active))]
        if seconds > 0:
            self._active[digest] = (now + seconds, claims)

    def _wrong(self, claims: Claims, *, introspected: bool) -> str:
        """Why a token that the issuer has signed, or said to be active, is not for us and for now.

        An answer about a token may leave out what a JWT has to say (RFC 7662 §2.2), but for the audience where one
        is configured: an issuer says of other programs' tokens, too, that they are active.
        """
        now = self._clock.now().timestamp()
        if claims.get("iss", self._oidc.issuer if introspected else None) != self._oidc.issuer:
            return "another issuer's"
        audience = claims.get("aud")
        if self._oidc.audience and self._oidc.audience not in (
            audience if isinstance(audience, list) else [audience]
        ):
            return "for another audience"
        # Written so that what is no number, or not a number, is refused.
        exp = claims.get("exp", now if introspected else None)
        if not (_is_number(exp) and now < exp + LEEWAY_SECONDS):
            return "expired"
        nbf = claims.get("nbf", now)
        if not (_is_number(nbf) and now >= nbf - LEEWAY_SECONDS):
            return "not valid yet"
        return ""

    def _account(self, claims: Claims) -> str | None:
        value = claims.get(self._oidc.account_claim)
        if not isinstance(value, str):
            return None
        if self._oidc.account_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            return None  # whoever registers with the issuer could name anybody's
        try:
            account = lookup_key(parse_path(value, utf8=True))
        except ValueError:
            return None
        # In another spelling, with a route or quotes, it is what the issuer takes for somebody else's.
        return account if account == lookup_key(value) else None

    async def _issuer_now(self, *, new_keys: bool = False) -> Issuer:
        """The issuer, fetched if that is due. Raises ``TryLater`` where it was never reached, or where ``new_keys``
        can't be had."""
        async with self._fetching:
            now = self._clock.monotonic()
            is_due = self._issuer is None or new_keys or now - self._fetched >= KEYS_SECONDS
            wait = REFETCH_SECONDS if self._issuer else FIRST_RETRY_SECONDS
            if is_due and (self._tried is None or now - self._tried >= wait):
                self._tried = now
                try:
                    self._issuer = await self._in_thread(self._fetch)
                    self._fetched, self._trouble = now, ""
                except FetchError as error:
                    self._trouble = str(error)
                    log.warning("oidc-issuer-down", issuer=self._oidc.issuer, reason=self._trouble)
            if self._issuer is None or (new_keys and self._trouble):
                raise TryLater(f"OIDC: {self._trouble}")
            return self._issuer

    def _fetch(self) -> Issuer:
        """In a thread. Raises ``FetchError``."""
        from posthouse.services.jwt import TokenKeys

        url = self._oidc.issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = fetch_json(url, seconds=self._fetch_seconds)
        if found.get("issuer") != self._oidc.issuer:
            raise FetchError(f"{url}: it is of {found.get('issuer')!r}, not of oidc.issuer")
        endpoint = self._endpoint(found, "introspection_endpoint") if "introspection_endpoint" in found else ""
        place = self._endpoint(found, "jwks_uri")
        keys = TokenKeys(fetch_json(place, seconds=self._fetch_seconds))
        if not keys:
            raise FetchError(f"{place}: no key that we know how to use")
        return Issuer(endpoint, keys)

    def _endpoint(self, found: dict[str, Any], name: str) -> str:
        value = found.get(name)
        is_clear = isinstance(value, str) and value.startswith("http://")
        if (
            not isinstance(value, str)
            or not is_acceptable(value)
            or (is_clear and self._oidc.issuer.startswith("https"))
        ):
            raise FetchError(f"{self._oidc.issuer}: its {name} is no https:// URL")
        return value

    def _ask(self, endpoint: str, token: str) -> Claims:
        """In a thread. Raises ``FetchError``."""
        path = self._settings.path(self._oidc.client_secret_file)
        try:
            with open(path, encoding="utf-8") as file:
                secret = file.read(4096).rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise FetchError(f"oidc.client_secret_file: {error}") from None
        # RFC 6749 §2.3.1: both are form-encoded before they are Basic's.
        pair = f"{quote(self._oidc.client_id, safe='')}:{quote(secret, safe='')}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        return fetch_json(endpoint, seconds=self._fetch_seconds, body=body, headers=headers)

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
