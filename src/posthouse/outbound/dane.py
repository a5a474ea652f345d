"""DANE: whether a server's certificates are what its domain's DNS says they are (RFC 7672, RFC 6698).

Invariants:
  1. Only DANE-TA(2) and DANE-EE(3) count, with parameters that we know; other records are as if unusable.
  2. With DANE-EE the certificate's name and dates don't count (RFC 7672 §3.1.1); with DANE-TA both do, and every
     signature up to the anchor.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from posthouse.runtime.certificate import public_key_info
from posthouse.runtime.resolver import Tlsa

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

DANE_TA, DANE_EE = 2, 3
_LENGTHS = {1: 32, 2: 64}
_CHAIN_LIMIT = 10
_UNDERSTOOD = frozenset({"2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17"})
"""Critical extensions of an issuer that we can judge: basicConstraints, keyUsage, extKeyUsage, subjectAltName."""


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that can be used for mail, of each kind only the strongest digest (RFC 7671 §9)."""
    known = [record for record in records if _is_known(record)]
    strong = {(record.usage, record.selector) for record in known if record.matching == 2}
    return tuple([r for r in known if r.matching != 1 or (r.usage, r.selector) not in strong])


def objection(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str]) -> str:
    """Why these certificates (DER, the server's own first) are not what the records ask for; empty when they are.

    ``names`` are those that a certificate below an anchor may be for. The word is one of RFC 8460 §4.3.
    """
    if not chain:
        return "validation-failure"
    if any(record.usage == DANE_EE and matches(record, chain[0]) for record in records):
        return ""
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        return "validation-failure"
    try:
        return _below_anchor(anchors, chain[:_CHAIN_LIMIT], names)
    except (ValueError, TypeError):  # what can't be parsed proves nothing
        return "validation-failure"


def matches(record: Tlsa, certificate: bytes) -> bool:
    """RFC 6698 §2.1."""
    try:
        selected = certificate if record.selector == 0 else public_key_info(certificate)
    except (ValueError, IndexError):
        return False
    if record.matching == 0:
        return selected == record.data
    return hashlib.new("sha256" if record.matching == 1 else "sha512", selected).digest() == record.data


def _is_known(record: Tlsa) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (0, 1):
        return False
    if record.matching == 0:
        return bool(record.data)
    return len(record.data) == _LENGTHS.get(record.matching, -1)


def _below_anchor(anchors: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str]) -> str:
    """Walk from the server's certificate to an anchor, one issuer after the other."""
    from cryptography.x509 import load_der_x509_certificate  # heavy; only where DANE-TA is used

    # The anchor itself may be left out by the server only where the record has all of it.
    whole = [record.data for record in anchors if (record.selector, record.matching) == (0, 0)]
    pool = {der: load_der_x509_certificate(der) for der in [*chain, *whole]}
    now = datetime.now(UTC)
    der = chain[0]
    for _ in range(len(pool)):
        current = pool[der]
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            return "certificate-expired"
        if any(matches(anchor, der) for anchor in anchors):
            return "" if _is_for(pool[chain[0]], names) else "certificate-host-mismatch"
        issuer = next((one for one in pool if one != der and _has_issued(pool[one], current)), None)
        if issuer is None:
            break
        der = issuer
    return "certificate-not-trusted"


def _has_issued(issuer: "Certificate", certificate: "Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if issuer.subject != certificate.issuer or not _may_issue(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_issue(issuer: "Certificate") -> bool:
    """A certification authority, with no limits that we don't understand. RFC 5280 §4.2."""
    from cryptography.x509 import BasicConstraints, KeyUsage

    is_authority, may_sign = False, True
    for extension in issuer.extensions:
        if extension.critical and extension.oid.dotted_string not in _UNDERSTOOD:
            return False
        if isinstance(extension.value, BasicConstraints):
            is_authority = extension.value.ca
        elif isinstance(extension.value, KeyUsage):
            may_sign = extension.value.key_cert_sign
    return is_authority and may_sign


def _is_for(certificate: "Certificate", names: Sequence[str]) -> bool:
    """RFC 7672 §3.2.3; a wildcard stands for one label, the first."""
    from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName

    try:
        alternatives = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return False
    given = {name.lower() for name in alternatives.get_values_for_type(DNSName)}
    return any(name in given or f"*.{name.partition('.')[2]}" in given for name in names)
