"""MTA-STS: which hosts a domain's mail goes to, and that TLS with them is to be had (RFC 8461).

Policies are kept on disk, one file a domain, for as long as they say: an attacker who suppresses a look-up later
does not get rid of one.

Invariants:
  1. A policy comes from ``https://mta-sts.DOMAIN`` with a certificate for that name, or from the disk, where it came
     from there.
  2. A policy that is kept holds until its ``max_age`` is over, or until a newer one has been fetched.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from posthouse.base.clock import Clock
from posthouse.config.checks import is_hostname
from posthouse.runtime.https import CertificateError, FetchError, fetch_text
from posthouse.runtime.log import log
from posthouse.runtime.resolver import Resolver, ResolverError

MAX_POLICY_BYTES = 65_536
"""RFC 8461 §3.3 asks for a limit."""
MAX_AGE_SECONDS = 31_557_600
"""RFC 8461 §3.2."""
FETCH_SECONDS = 20.0
AGAIN_SECONDS = 300.0
"""After a failure nobody is asked again before that. RFC 8461 §3.3."""
_REMEMBERED_FAILURES = 10_000
_ID = re.compile(rb"v=STSv1[ \t]*;(?:.*;)?[ \t]*id[ \t]*=[ \t]*([A-Za-z0-9]{1,32})[ \t]*(?:;.*)?", re.DOTALL)

Fetch = Callable[[str, str], str]
"""The policy's text, by host and its address. Blocks. Raises ``FetchError``."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``mode``: ``enforce``, ``testing`` or ``none``; ``mx``: patterns in lower case; ``expires``: seconds since the
    epoch."""

    id: str
    mode: str
    mx: tuple[str, ...]
    expires: float

    def allows(self, host: str) -> bool:
        """RFC 8461 §4.1: a wildcard stands for exactly the first label."""
        return host in self.mx or f"*.{host.partition('.')[2]}" in self.mx


def fetch_policy(host: str, address: str) -> str:
    """See ``Fetch``."""
    return fetch_text(
        host, (address, 443), "/.well-known/mta-sts.txt", seconds=FETCH_SECONDS, max_bytes=MAX_POLICY_BYTES
    )


class Policies:
    """The policies of domains, kept in ``directory``."""

    def __init__(
        self,
        directory: str,
        resolver: Resolver,
        clock: Clock,
        fetch: Fetch = fetch_policy,
        *,
        may_write: bool = True,
    ) -> None:
        """Without ``may_write`` what is fetched is not kept."""
        self._directory = directory
        self._resolver = resolver
        self._clock = clock
        self._fetch = fetch
        self._may_write = may_write
        self._failures: dict[str, float] = {}

    async def policy(self, domain: str) -> Policy | None:
        """What holds for this domain now; ``None``: it has no policy, or none that can be had."""
        if not is_hostname(domain):
            return None
        now = self._clock.now().timestamp()
        kept = self._read(domain)
        if kept is not None and kept.expires <= now:
            kept = None
        published = await self._published_id(domain)
        if not published or (kept is not None and kept.id == published) or self._failures.get(domain, 0) > now:
            return kept
        try:
            policy = await self._fetched(domain, published, now)
        except (FetchError, ResolverError, ValueError) as failure:
            log.warning("mta-sts-failed", domain=domain, error=str(failure), kept=kept is not None)
            if len(self._failures) >= _REMEMBERED_FAILURES:
                self._failures.clear()
            self._failures[domain] = now + AGAIN_SECONDS
            return kept
        self._failures.pop(domain, None)
        if self._may_write:
            self._write(domain, policy)
        return policy

    async def _published_id(self, domain: str) -> str:
        """Empty: there is no record, or more than one (RFC 8461 §3.1), or nobody can say."""
        try:
            records = await self._resolver.txt(f"_mta-sts.{domain}")
        except ResolverError:
            return ""
        found = [record for record in records if record.startswith(b"v=STSv1")]
        match = _ID.fullmatch(found[0]) if len(found) == 1 else None
        return match[1].decode() if match else ""

    async def _fetched(self, domain: str, published: str, now: float) -> Policy:
        host = f"mta-sts.{domain}"
        addresses = await self._resolver.addresses(host)
        trouble = FetchError(f"{host} has no address")
        for address in addresses[:3]:
            try:
                text = await asyncio.to_thread(self._fetch, host, address)
            except CertificateError:
                raise
            except FetchError as failure:
                trouble = failure
            else:
                return parse_policy(text, published, now)
        raise trouble

    def _path(self, domain: str) -> str:
        return os.path.join(self._directory, domain)

    def _read(self, domain: str) -> Policy | None:
        try:
            with open(self._path(domain), encoding="utf-8") as file:
                kept = json.load(file)
            return Policy(str(kept["id"]), str(kept["mode"]), tuple(kept["mx"]), float(kept["expires"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as failure:
            log.warning("mta-sts-unreadable", file=self._path(domain), error=str(failure))
            return None

    def _write(self, domain: str, policy: Policy) -> None:
        path = self._path(domain)
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(f"{path}.new~", "w", encoding="utf-8") as file:
                json.dump(asdict(policy), file)
            os.replace(f"{path}.new~", path)
        except OSError as failure:
            log.warning("mta-sts-not-kept", file=path, error=str(failure))


def parse_policy(text: str, published: str, now: float) -> Policy:
    """RFC 8461 §3.2: of a key that stands twice the first counts, but for ``mx``. Raises ``ValueError``."""
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if colon and key == "mx":
            patterns.append(value.lower().rstrip("."))
        elif colon:
            fields.setdefault(key, value)
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if fields.get("version") != "STSv1" or mode not in ("enforce", "testing", "none"):
        raise ValueError("no MTA-STS policy")
    if not re.fullmatch(r"[0-9]{1,10}", age) or (mode != "none" and not patterns):
        raise ValueError("MTA-STS policy without max_age or mx")
    return Policy(published, mode, tuple(patterns), now + min(int(age), MAX_AGE_SECONDS))
