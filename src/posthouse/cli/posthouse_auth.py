"""``posthouse-auth``: asks a running Posthouse whether a password is right; for PAM's pam_exec(8) and for scripts.

It is started for every login, so it imports next to nothing, and says nothing but by its exit code: 0 yes, 1 no or
nobody could tell, 2 called wrongly. The password comes on standard input, to the first NUL or the end, as pam_exec's
``expose_authtok`` gives it; who and for what come in PAM_USER, PAM_SERVICE and PAM_RHOST. saslauthd's protocol has no
place for the client's address: it follows the service's name after ``@``.
"""

import os
import socket
import sys
from collections.abc import Mapping

USAGE = "usage: posthouse-auth [--socket PATH] [--domain DOMAIN]   (called by pam_exec with expose_authtok)"
SOCKET = "/run/posthouse/saslauthd.sock"
TIMEOUT_SECONDS = 60.0
MAX_BYTES = 4096


def main() -> None:
    """The program."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Ask; the exit code."""
    options = {"--socket": SOCKET, "--domain": ""}
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if len(words) % 2 or any(name not in options for name in words[::2]):
        return _complain(USAGE, 2)
    options.update(zip(words[::2], words[1::2], strict=True))
    if environment.get("PAM_TYPE", "auth") != "auth":
        # The session and account stages have no password: a yes here would let everybody in.
        return _complain("it checks passwords: it belongs on pam.d's 'auth' lines only", 2)
    user = environment.get("PAM_USER", "")
    password = sys.stdin.buffer.read(MAX_BYTES + 1).split(b"\0", 1)[0]
    if not user or not password or len(password) > MAX_BYTES:
        return 1
    if options["--domain"] and "@" not in user:
        user += "@" + options["--domain"]
    service, address = environment.get("PAM_SERVICE") or "pam", environment.get("PAM_RHOST", "")
    try:
        return 0 if _ask(options["--socket"], user, password, f"{service}@{address}" if address else service) else 1
    except OSError as error:
        return _complain(f"{options['--socket']}: {error}", 1)


def _ask(path: str, user: str, password: bytes, service: str) -> bool:
    """Whether Posthouse says yes. Raises ``OSError``."""
    strings = (os.fsencode(user)[:MAX_BYTES], password, os.fsencode(service)[:MAX_BYTES], b"")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        connection.sendall(b"".join(len(text).to_bytes(2, "big") + text for text in strings))
        answer = b""
        while len(answer) < 4 and (data := connection.recv(1024)):
            answer += data
    return answer == b"\x00\x02OK"


def _complain(text: str, code: int) -> int:
    print(f"posthouse-auth: {text}", file=sys.stderr)
    return code
