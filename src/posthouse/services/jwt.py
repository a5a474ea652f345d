"""Signed tokens (RFC 7519) and the keys of who signs them (RFC 7517).

Imported only where OAUTHBEARER or XOAUTH2 is offered: what it takes is 10 MB in every process.

Invariants:
  1. Signatures are by the issuer's public keys only: ``none`` and every algorithm with a shared secret are refused,
     and no key of that kind is kept (RFC 8725 §3.1).
  2. A key is used for its own kind of algorithm only.
"""

import base64
import json
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519", "Ed448"), "OKP"),
}
MAX_KEYS = 50


class TokenError(Exception):
    """The token is not good; says why, for the log."""


class UnknownKeyError(TokenError):
    """None of the keys has signed it; the issuer may have new ones."""


class _Registry(JWSRegistry):
    """Which algorithms and headers are taken. Issuers put more into the header than RFC 7515 has."""

    max_header_length = 4096

    def __init__(self) -> None:
        super().__init__(algorithms=list(ALGORITHMS), strict_check_header=False)

    def get_alg(self, name: str):
        if name not in ALGORITHMS:
            raise TokenError(f"signed by {name!r}, which proves nothing")
        return self.algorithms[name]


_REGISTRY = _Registry()


class TokenKeys:
    """An issuer's public keys."""

    def __init__(self, document: dict[str, Any]) -> None:
        """From a JWK set (RFC 7517 §5); keys of kinds that are not known are left out."""
        listed = document.get("keys")
        usable = (key for key in listed if _is_usable(key)) if isinstance(listed, list) else ()
        self._keys = [key for _, data in zip(range(MAX_KEYS), usable, strict=False) if (key := _import(data))]

    def __len__(self) -> int:
        return len(self._keys)

    def claims(self, token: str) -> dict[str, Any]:
        """What the token says, if one of these keys has signed it; whether it is true now is for the caller.

        Raises ``TokenError``.
        """
        header = header_of(token)
        if header is None:
            raise TokenError("no JWT")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise TokenError(f"signed by {str(algorithm)[:40]!r}, which proves nothing")
        candidates = [key for key in self._keys if _suits(key, algorithm, kid)]
        for key in candidates:
            try:
                return jwt.decode(token, key, registry=_REGISTRY).claims
            except (JoseError, ValueError, TypeError):
                continue  # the reason would not tell forgery from another key
        if candidates and kid is not None:
            raise TokenError("the signature is wrong")
        raise UnknownKeyError(f"signed by a key, {str(kid)[:100]!r}, that the issuer doesn't have")


def header_of(token: str) -> dict[str, Any] | None:
    """The header of a token, not verified, or None where it is no JWT in its compact form."""
    first, dot, rest = token.partition(".")
    if not dot or rest.count(".") != 1:
        return None
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and "alg" in header else None


def _is_usable(data: object) -> bool:
    return isinstance(data, dict) and data.get("kty") in KINDS and data.get("use", "sig") == "sig"


def _import(data: dict[str, Any]) -> RSAKey | ECKey | OKPKey | None:
    try:
        return KINDS[data["kty"]].import_key(data)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _suits(key: RSAKey | ECKey | OKPKey, algorithm: str, kid: object) -> bool:
    return (
        key.key_type == ALGORITHMS[algorithm]
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    )
