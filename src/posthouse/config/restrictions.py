"""The words of the restriction lists: which there are, and what stands behind each.

Names and meanings are Postfix's (postconf(5)); docs/restrictions.md tells the differences.
"""

import re
from dataclasses import dataclass

from posthouse.config.endpoints import Endpoint, parse_endpoint

_PLAIN = """
    permit permit_mynetworks permit_sasl_authenticated permit_tls_encrypted
    reject defer defer_if_permit defer_if_reject
    reject_unauth_destination reject_unauth_pipelining reject_plaintext_session
    reject_invalid_helo_hostname reject_non_fqdn_helo_hostname reject_unknown_helo_hostname
    reject_unknown_client_hostname reject_unknown_reverse_client_hostname
    reject_non_fqdn_sender reject_non_fqdn_recipient
    reject_unknown_sender_domain reject_unknown_recipient_domain
    reject_unlisted_sender reject_unlisted_recipient
    reject_sender_login_mismatch reject_multi_recipient_bounce
    reject_dnslists check_greylist
    reject_unverified_sender reject_unverified_recipient
"""
_KINDS = {
    **dict.fromkeys(_PLAIN.split(), ""),
    **dict.fromkeys(
        (
            "reject_rbl_client",
            "permit_dnswl_client",
            "reject_rhsbl_client",
            "reject_rhsbl_reverse_client",
            "reject_rhsbl_helo",
            "reject_rhsbl_sender",
            "reject_rhsbl_recipient",
        ),
        "list",
    ),
    **dict.fromkeys(
        ("check_client_access", "check_helo_access", "check_sender_access", "check_recipient_access"), "table"
    ),
    "check_policy_service": "endpoint",
}
WORDS = frozenset(_KINDS) | {"warn_if_reject"}
_SITE = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction with its argument; ``only_warns``: ``warn_if_reject`` stands before it."""

    word: str
    argument: str = ""
    only_warns: bool = False

    def __str__(self) -> str:
        words = ["warn_if_reject"] * self.only_warns + [self.word] + [self.argument] * bool(self.argument)
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class DnsList:
    """A DNS list: ``octets`` are what each octet of its answer has to be one of; ``weight`` what a hit counts."""

    site: str
    octets: tuple[frozenset[int], ...] = ()
    weight: int = 1

    def matches(self, answer: str) -> bool:
        """Whether that answer, an IPv4 address, is a hit. Without octets, any of 127/8 is (RFC 5782 §2.1)."""
        octets = [int(octet) for octet in answer.split(".")]
        if not self.octets:
            return octets[0] == 127
        return all(octet in allowed for octet, allowed in zip(octets, self.octets, strict=True))


def parse_restriction(text: str) -> Restriction:
    """Read one; ``ValueError`` says which word is wrong."""
    words = text.split()
    only_warns = len(words) > 1 and words[0] == "warn_if_reject"
    word, *arguments = words[only_warns:] or [""]
    if word not in _KINDS:
        raise ValueError(f"{word!r} is no restriction")
    kind = _KINDS[word]
    if not kind and arguments:
        raise ValueError(f"{word!r} takes no argument")
    if kind and len(arguments) != 1:
        raise ValueError(f"{word!r} takes one argument")
    if kind == "list":
        parse_dns_list(arguments[0], weighted=False)
    elif kind == "endpoint":
        parse_policy_endpoint(arguments[0])
    elif kind == "table" and re.match(r"[a-z]+:", arguments[0]):
        raise ValueError(f"{arguments[0]!r}: a table is a text file's path, without a type before it")
    return Restriction(word, "".join(arguments), only_warns)


def parse_dns_list(text: str, *, weighted: bool = True) -> DnsList:
    """Read ``site``, ``site=127.0.0.[2..11]`` and, where ``weighted``, ``site=...*-2``. Raises ``ValueError``."""
    place, star, weight = text.partition("*")
    if star and not weighted:
        raise ValueError(f"{text!r}: weights count for dnslists.sites only")
    if star and not re.fullmatch(r"[+-]?\d{1,4}", weight):
        raise ValueError(f"{text!r}: {weight!r} is no weight")
    site, equals, answer = place.partition("=")
    if len(site) > 200 or not _SITE.fullmatch(site):
        raise ValueError(f"{text!r}: {site!r} is no DNS list's domain")
    return DnsList(site.lower(), _octets(text, answer) if equals else (), int(weight) if star else 1)


def _octets(text: str, answer: str) -> tuple[frozenset[int], ...]:
    parts = re.findall(r"\[[0-9.;]+\]|\d+", answer)
    if len(parts) != 4 or ".".join(parts) != answer:
        raise ValueError(f"{text!r}: {answer!r} is no answer of a DNS list, as in '127.0.0.[2..11;20]'")
    octets: list[frozenset[int]] = []
    for part in parts:
        numbers: set[int] = set()
        for item in part.strip("[]").split(";"):
            match = re.fullmatch(r"(\d{1,3})(?:\.\.(\d{1,3}))?", item)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
            if not low <= high < 256:
                raise ValueError(f"{text!r}: {item!r} is no range of an octet")
            numbers |= set(range(low, high + 1))
        octets.append(frozenset(numbers))
    return tuple(octets)


def parse_policy_endpoint(text: str) -> Endpoint:
    """Read ``unix:/path``, ``host:port`` or Postfix's ``inet:host:port``. Raises ``ValueError``."""
    return parse_endpoint(text.removeprefix("inet:"))


def parse_list(texts: tuple[str, ...]) -> tuple[Restriction, ...]:
    """Read a list; a ``warn_if_reject`` that stands alone is for the one after it. Raises ``ValueError``."""
    restrictions: list[Restriction] = []
    only_warns = False
    for text in texts:
        if text.split() == ["warn_if_reject"]:
            only_warns = True
            continue
        one = parse_restriction(text)
        restrictions.append(Restriction(one.word, one.argument, one.only_warns or only_warns))
        only_warns = False
    return tuple(restrictions)
