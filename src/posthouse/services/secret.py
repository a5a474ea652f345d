"""The secret that all processes of a host share, made at the first start.

What is derived from it must be the same whichever worker a client reaches; losing it costs nobody anything.
"""

import os
import secrets

_BYTES = 32


def host_secret(path: str) -> bytes:
    """The secret in that file, which is made when there is none. Raises ``OSError``."""
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    temporary = f"{path}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_BYTES))
    try:
        os.link(temporary, path)  # unlike a rename, this lets the first of two processes win
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    return _read(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        secret = file.read(_BYTES)
    if len(secret) < _BYTES:
        raise OSError(f"{path}: shorter than {_BYTES} bytes; remove it and a new one is made")
    return secret
