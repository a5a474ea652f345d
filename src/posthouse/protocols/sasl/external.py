"""The server's side of EXTERNAL (RFC 4422 appendix A): the client's certificate has said who it is.

Invariants: those of ``exchange.py``. Nobody becomes an account whose address is not in the certificate.
"""

from posthouse.message.address import lookup_key
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, over, text
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedAccount, Step, Success


class External(ServerMechanism):
    """``emails``: the addresses in the certificate, at least one."""

    def __init__(self, emails: tuple[str, ...]) -> None:
        super().__init__()
        self._emails = emails

    def verified(self, is_right: bool) -> Step:
        if not self.login:
            return super().verified(is_right)
        return self._end(Success(self.login) if is_right else WRONG)

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._authzid
            return Challenge(b"")
        return self._authzid(response)

    def _authzid(self, response: bytes | None) -> Step:
        """Empty: whoever the certificate says it is, by its first address where it has several."""
        authzid = name(text(response)) if response else ""
        known = [lookup_key(name(email)) for email in self._emails]
        login = lookup_key(authzid) if authzid else known[0]
        if login not in known:
            return self._end(Failure("the certificate is not that account's"))
        self._respond = over
        self.login = login
        return NeedAccount(login, authzid)
