"""Who else can say that a password, or a token, is right: the faces behind which PAM, LDAP and OIDC stand.

Invariants:
  1. A source says yes, no, or nothing at all (``TryLater``); trouble of its own is never a no.
  2. It answers for the secret only. Whether the account exists here and may log in is for who asked.
  3. It keeps no password, and puts none in a log or an error.
"""

from typing import Protocol

from posthouse.protocols.sasl.peer import Peer


class PasswordSource(Protocol):
    """One of ``auth.chain`` besides ``sql``; ``name`` is what it is called there."""

    name: str

    async def check(self, login: str, password: str, peer: Peer) -> str | None:
        """The account's address, in lower case, where the password is right, or None. Raises ``TryLater``."""
        ...

    async def close(self) -> None: ...


class TokenSource(Protocol):
    """Who checks the access tokens of OAUTHBEARER and XOAUTH2."""

    async def check(self, token: str, login: str) -> str | None:
        """The account's address, in lower case, where the token is good, or None. Raises ``TryLater``.

        ``login``: the account that the client names, or empty; a token of another account is not good for it.
        """
        ...

    async def close(self) -> None: ...
