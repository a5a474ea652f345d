"""Linux-PAM's library, as much of it as checking a password takes (pam(3)).

Modules run in the process that calls this, as its user; they may block it, leak in it or crash it. Call it only in a
process that is there for one login.
"""

import ctypes
from dataclasses import dataclass, field
from typing import Any

PAM_SUCCESS = 0
PAM_CONV_ERR = 19
_PAM_USER, _PAM_TTY, _PAM_RHOST, _PAM_FAIL_DELAY = 2, 3, 4, 10
_PROMPT_ECHO_OFF, _PROMPT_ECHO_ON, _ERROR_MSG, _TEXT_INFO = 1, 2, 3, 4
_PAM_SILENT = 0x8000
_PAM_DISALLOW_NULL_AUTHTOK = 1  # who has no password has none that is right, whatever "nullok" says
_MAX_MESSAGES = 32

# What a module says of the user or the password, not of its own state: permission denied, wrong password, unknown
# user, too many tries, password expired, account expired.
REFUSALS = frozenset({6, 7, 10, 11, 12, 13})


class PamError(Exception):
    """PAM, or one of its modules, can't say whether the password is right."""


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)),
    ctypes.c_void_p,
)
_DELAY = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _CONVERSE), ("data", ctypes.c_void_p))


@dataclass(slots=True)
class LibPam:
    """The library, loaded. Raises ``OSError`` where it is not installed."""

    _pam: Any = field(default_factory=lambda: _declared(ctypes.CDLL("libpam.so.0")), init=False)
    _libc: Any = field(default_factory=lambda: _with_memory(ctypes.CDLL(None)), init=False)

    def check(self, service: str, user: bytes, password: bytes, address: bytes) -> bool:
        """Whether this user has this password and may log in now. Raises ``PamError``.

        ``address``: of the client, for the modules to see; empty when there is none.
        """
        callbacks = _Callbacks(self._libc, user, password)
        handle = ctypes.c_void_p()
        code = self._pam.pam_start(service.encode(), user, ctypes.byref(callbacks.conversation), ctypes.byref(handle))
        if code != PAM_SUCCESS:
            raise PamError(f"pam_start: {self._explain(handle, code)}")
        try:
            # The pause after a failure is for who asked to make: it need not keep this process.
            self._pam.pam_set_item(handle, _PAM_FAIL_DELAY, ctypes.cast(callbacks.delay, ctypes.c_void_p))
            self._pam.pam_set_item(handle, _PAM_TTY, ctypes.c_char_p(b"posthouse"))
            if address:
                self._pam.pam_set_item(handle, _PAM_RHOST, ctypes.c_char_p(address))
            code = self._run(handle)
            return code == PAM_SUCCESS and self._is_still(handle, user)
        finally:
            self._pam.pam_end(handle, code)

    def _run(self, handle: ctypes.c_void_p) -> int:
        """0, or why not. Raises ``PamError``."""
        for name in ("pam_authenticate", "pam_acct_mgmt"):
            code = getattr(self._pam, name)(handle, _PAM_SILENT | _PAM_DISALLOW_NULL_AUTHTOK)
            if code in REFUSALS:
                return code
            if code != PAM_SUCCESS:
                raise PamError(f"{name}: {self._explain(handle, code)}")
        return PAM_SUCCESS

    def _is_still(self, handle: ctypes.c_void_p, user: bytes) -> bool:
        """Whether the modules have let in whom we asked about: they may change the name (pam_get_item(3))."""
        name = ctypes.c_char_p()
        code = self._pam.pam_get_item(handle, _PAM_USER, ctypes.byref(name))
        return code == PAM_SUCCESS and name.value == user

    def _explain(self, handle: ctypes.c_void_p, code: int) -> str:
        text: bytes | None = self._pam.pam_strerror(handle, code)
        return f"{(text or b'no reason').decode(errors='replace')} (code {code})"


class _Callbacks:
    """What modules may call while one login lasts; it has to live as long as the handle."""

    def __init__(self, libc: Any, user: bytes, password: bytes) -> None:
        self._libc = libc
        self._answers = {_PROMPT_ECHO_OFF: password, _PROMPT_ECHO_ON: user, _ERROR_MSG: None, _TEXT_INFO: None}
        self.conversation = _Conversation(_CONVERSE(self._converse), None)
        self.delay = _DELAY(lambda _code, _microseconds, _data: None)

    def _converse(self, count: int, asked: Any, answered: Any, _data: Any) -> int:
        """Answer a module's questions (pam_conv(3)). It frees what we allocate, with free(3)."""
        if not 1 <= count <= _MAX_MESSAGES:
            return PAM_CONV_ERR
        styles = [asked[index].contents.style for index in range(count)]
        if any(style not in self._answers for style in styles):
            return PAM_CONV_ERR
        memory = self._libc.calloc(count, ctypes.sizeof(_Response))
        if not memory:
            return PAM_CONV_ERR
        responses = ctypes.cast(memory, ctypes.POINTER(_Response))
        for index, style in enumerate(styles):
            answer = self._answers[style]
            responses[index].text = None if answer is None else self._libc.strdup(answer)
        answered[0] = responses
        return PAM_SUCCESS


def _declared(pam: Any) -> Any:
    """The library with its functions' types: without them, pointers would be cut to 32 bits."""
    handle, integer = ctypes.c_void_p, ctypes.c_int
    pam.pam_start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    pam.pam_set_item.argtypes = [handle, integer, ctypes.c_void_p]
    pam.pam_get_item.argtypes = [handle, integer, ctypes.c_void_p]
    for name in ("pam_authenticate", "pam_acct_mgmt", "pam_end"):
        getattr(pam, name).argtypes = [handle, integer]
    pam.pam_strerror.argtypes = [handle, integer]
    pam.pam_strerror.restype = ctypes.c_char_p
    return pam


def _with_memory(libc: Any) -> Any:
    libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    libc.calloc.restype = ctypes.c_void_p
    libc.strdup.argtypes = [ctypes.c_char_p]
    libc.strdup.restype = ctypes.c_void_p
    return libc
