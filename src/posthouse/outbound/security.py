"""How a session with a host has to be protected: DANE over MTA-STS over whatever TLS there is.

Invariants:
  1. What a domain asks for is never replaced by less: where that can't be had, mail waits.
  2. Who can't be asked (TLSA records that nobody can say anything about) is not sent to either (RFC 7672 §2.1.1).
"""

import ssl
from dataclasses import dataclass, replace
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
Level = Literal["", "none", "may", "encrypt", "verify", "dane", "requiretls"]
"""What is asked of a destination beyond what its domain publishes: by the operator, in Postfix's words; by a message,
``requiretls`` (RFC 8689 §4.2.1) or ``may``. Empty: nothing."""


@dataclass(frozen=True, slots=True)
class Security:
    """What one session needs. ``names`` and ``records`` are DANE's, ``server_name`` is what TLS asks for; ``weaker``
    is what may be tried where this fails, ``None``: nothing may. ``is_final``: a host that fails is not
    asked again for that message."""

    kind: Kind
    why: str
    context: ssl.SSLContext | None = None
    server_name: str = ""
    names: tuple[str, ...] = ()
    records: tuple[Tlsa, ...] = ()
    weaker: "Security | None" = None
    is_final: bool = False

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


ENCRYPTION_NEEDED = "5.7.10"
"""RFC 8689 §4.2.1: no session that is protected as the message wants it."""
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
        self._verifying = verifying

    async def policy(self, domain: str, level: Level = "") -> Policy | None:
        """The MTA-STS policy of a domain whose MX hosts are about to be used, where it counts."""
        if self._policies is None or level not in ("", "requiretls"):
            return None
        policy = await self._policies.policy(domain)
        return None if policy is None or policy.mode == "none" else policy

    async def of(self, target: Target, domain: str, policy: Policy | None, level: Level = "") -> Security:
        """What this host needs for mail to ``domain``. Raises ``HostUnavailableError``."""
        why = f"tls = {level!r} is set for this destination"
        match level:
            case "none":
                return Security("clear", why)
            case "may":
                return self._opportunistic(target, "nothing more is asked for")
            case "encrypt":
                return Security("encrypted", why, self._tls, target.host)
            case "verify":
                return Security("verified", why, self._verifies(), target.host)
            case _:
                pass
        found = await self._by_dns(target, domain, policy)
        if level == "requiretls":
            return self._for_requiretls(found, target, domain, policy)
        if level == "dane" and found.kind != "dane":
            raise _unavailable(target.host, "it has no TLSA records that are validated and usable")
        return found

    def _for_requiretls(self, found: Security, target: Target, domain: str, policy: Policy | None) -> Security:
        """RFC 8689 §2: the host's name is vouched for, and so is who answers there."""
        if found.kind in ("dane", "mta-sts"):
            return replace(found, weaker=None, is_final=True)
        # A domain that is its own host needs nobody to vouch for the name.
        is_named = target.is_mx_secure or target.host == domain or (policy is not None and policy.allows(target.host))
        if not is_named:
            text = f"Neither DNSSEC nor MTA-STS says that {target.host} is a mail host of {domain} (REQUIRETLS)"
            raise HostUnavailableError(Reply(550, ENCRYPTION_NEEDED, text))
        return Security("verified", "the message has REQUIRETLS", self._verifies(), target.host, is_final=True)

    def _opportunistic(self, target: Target, why: str) -> Security:
        return Security("opportunistic", why, self._tls, target.host, weaker=CLEAR) if self._tls else CLEAR

    def _verifies(self) -> ssl.SSLContext:
        if self._verifying is None:
            self._verifying = verifying_tls()
        return self._verifying

    async def _by_dns(self, target: Target, domain: str, policy: Policy | None) -> Security:
        """What the domain asks for itself."""
        if self._tls is None:
            return CLEAR
        base, records = await self._tlsa(target)
        good = dane.usable(records)
        if good:
            names = tuple(dict.fromkeys((base, target.host, domain)))
            return Security("dane", f"{len(good)} TLSA record(s) at {base}", self._tls, base, names, good)
        weaker = self._opportunistic(target, "no DANE, no MTA-STS policy that is enforced")
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
        return Security("mta-sts", why, self._verifies(), target.host, weaker=weaker if is_testing else None)

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
