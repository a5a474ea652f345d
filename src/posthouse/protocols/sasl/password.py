"""The server's side of PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), which have the password sent.

Invariants: those of ``exchange.py``.
"""

from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism, name, over, prepared_name, text
from posthouse.protocols.sasl.steps import Challenge, NeedVerify, Step, Success


class _PasswordMechanism(ServerMechanism):
    """Has the password sent and verified as it is."""

    def verified(self, is_right: bool) -> Step:
        if not self.login:
            return super().verified(is_right)
        return self._end(Success(self.login) if is_right else WRONG)

    def _verify(self, login: str, password: str, authzid: str = "") -> Step:
        if not password:
            raise ValueError("empty password")
        self._respond = over
        self.login = login
        return NeedVerify(login, password, authzid)


class Plain(_PasswordMechanism):
    """``authzid NUL authcid NUL password``. RFC 4616 §2."""

    def _start(self, response: bytes | None) -> Step:
        if response is None:
            self._respond = self._message
            return Challenge(b"")
        return self._message(response)

    def _message(self, response: bytes | None) -> Step:
        authzid, login, password = text(response).split("\0")
        return self._verify(name(login), password, prepared_name(authzid))


class Login(_PasswordMechanism):
    """``Username:`` and ``Password:``, each asked for on its own. Some clients send the first unasked."""

    def _start(self, response: bytes | None) -> Step:
        if response is not None:
            return self._username(response)
        self._respond = self._username
        return Challenge(b"Username:")

    def _username(self, response: bytes | None) -> Step:
        login = name(text(response))
        self._respond = lambda response: self._password(login, response)
        return Challenge(b"Password:")

    def _password(self, login: str, response: bytes | None) -> Step:
        password = text(response)
        if "\0" in password:
            raise ValueError("NUL in the password")
        return self._verify(login, password)
