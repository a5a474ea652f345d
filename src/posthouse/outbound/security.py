"""How a session with a host has to be protected: DANE over MTA-STS over whatever TLS there is.

Invariants:
  1. What a domain asks for is never replaced by less: where that can't be had, mail waits.
  2. Who can't be asked (TLSA records that nobody can say anything about) is not sent to either (RFC 7672 §2.1.1).
"""

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from posthouse.base.errors import Reply
from posthouse.outbound import dane
from posthouse.outbound.mtasts import Policies, Policy
from posthouse.outbound.routing import Target
from posthouse.outbound.session import HostUnavailableError
from posthouse.runtime.resolver import NoAnswer, NoSuchName, ResolverTryLater, Tlsa

if TYPE_CHECKING:
    from posthouse.runtime.validating import ValidatingResolver

Kind = Literal["dane", "mta-sts", "verified", "encrypted", "opportunistic", "clear"]


@dataclass(frozen=True, slots=True)
class Security:
    """What one session needs. ``names`` and ``records`` are DANE's, ``server_name`` is what TLS asks for; ``weaker``
    is what may be tried where this fails, ``None``: nothing may."""

    kind: Kind
    why: str
    context: ssl.SSLContext | None = None
    server_name: str = ""
    names: tuple[str, ...] = ()
    records: tuple[Tlsa, ...] = ()
    weaker: "Security | None" = None

    @property
    def is_required(self) -> bool:
        """Whether a server without TLS gets nothing in this way."""
        return self.kind not in ("opportunistic", "clear")

    @property
    def policy_type(self) -> str:
        """The word of RFC 8460 §4.4."""
        return {"dane": "tlsa", "encrypted": "tlsa", "mta-sts": "sts"}.get(self.kind, "no-policy-found")

    def objection(self, chain: tuple[bytes, ...]) -> str:
        """What is wrong with a server that has shown these certificates; empty: nothing."""
        return dane.objection(self.records, chain, self.names) if self.kind == "dane" else ""


CLEAR = Security("clear", "TLS is turned off or failed, and nothing asks for it")


def opportunistic_tls() -> ssl.SSLContext:
    """TLS with whoever offers it: without a policy that says more, any certificate is better than none."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verifying_tls(ca: str = "") -> ssl.SSLContext:
    """TLS with who can show a certificate for its name, signed by ``ca`` (a PEM file) or one of the system's."""
    return ssl.create_default_context(cafile=ca or None)


class Securing:
    """Decides for each host. Without a validating resolver there is no DANE, without ``policies`` no MTA-STS."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        *,
        validating: "ValidatingResolver | None" = None,
        policies: Policies | None = None,
        verifying: ssl.SSLContext | None = None,
    ) -> None:
        """``tls``: the context of those who are not verified by it; without it everything goes in clear."""
        self._tls = tls
        self._validating = validating
        self._policies = policies
        self._verifying = verifying or (verifying_tls() if policies is not None else None)

    async def policy(self, domain: str) -> Policy | None:
        """The MTA-STS policy of a domain whose MX hosts are about to be used."""
        if self._policies is None:
            return None
        policy = await self._policies.policy(domain)
        return None if policy is None or policy.mode == "none" else policy

    async def of(self, target: Target, domain: str, policy: Policy | None) -> Security:
        """What this host needs for mail to ``domain``. Raises ``HostUnavailableError``."""
        if self._tls is None:
            return CLEAR
        base, records = await self._tlsa(target)
        good = dane.usable(records)
        if good:
            names = tuple(dict.fromkeys((base, target.host, domain)))
            return Security("dane", f"{len(good)} TLSA record(s) at {base}", self._tls, base, names, good)
        weaker = Security(
            "opportunistic",
            "no DANE, no MTA-STS policy that is enforced",
            self._tls,
            target.host,
            weaker=CLEAR,
        )
        if policy is not None and (policy.mode == "enforce" or not records):
            return self._by_policy(target, policy, weaker)
        if records:
            # RFC 7672 §2.2: they say at least that there is TLS.
            return Security("encrypted", "no TLSA record of this host is usable", self._tls, target.host)
        return weaker

    def _by_policy(self, target: Target, policy: Policy, weaker: Security) -> Security:
        is_testing = policy.mode == "testing"
        if not policy.allows(target.host):
            if is_testing:
                return weaker
            raise _unavailable(target.host, "the domain's MTA-STS policy does not name this host")
        why = f"MTA-STS policy {policy.id}, {policy.mode}"
        return Security("mta-sts", why, self._verifying, target.host, weaker=weaker if is_testing else None)

    async def _tlsa(self, target: Target) -> tuple[str, list[Tlsa]]:
        """Secure TLSA records, and the name they belong to. RFC 7672 §2.2.3."""
        if self._validating is None or not target.is_mx_secure:
            return "", []
        try:
            for base in await self._bases(target, self._validating):
                records = await self._secure_tlsa(f"_{target.port}._tcp.{base}", self._validating)
                if records:
                    return base, records
        except ResolverTryLater as failure:
            raise _unavailable(target.host, f"its TLSA records can't be looked up now ({failure})") from None
        return "", []

    async def _bases(self, target: Target, resolver: "ValidatingResolver") -> list[str]:
        """RFC 7672 §2.2.2: without a secure address there is no point in asking, but for the alias itself."""
        if target.is_secure:
            return list(dict.fromkeys([target.canonical or target.host, target.host]))
        is_alias = target.canonical not in ("", target.host)
        return [target.host] if is_alias and await resolver.alias_is_secure(target.host) else []

    async def _secure_tlsa(self, name: str, resolver: "ValidatingResolver") -> list[Tlsa]:
        try:
            records = await resolver.tlsa(name)
        except (NoAnswer, NoSuchName):
            return []
        return list(records) if records.is_secure else []


def _unavailable(host: str, reason: str) -> HostUnavailableError:
    """Status 4.7.5: cryptographic failure. RFC 3463 §3.8."""
    return HostUnavailableError(Reply(451, "4.7.5", f"Cannot send to {host} securely: {reason}"))
