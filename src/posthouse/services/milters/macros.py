"""What milters are told beside the stages themselves: Sendmail's macros, with the values that Postfix gives them."""

from typing import TYPE_CHECKING

from posthouse import __version__
from posthouse.message.address import split

if TYPE_CHECKING:
    from posthouse.services.reception import Client

UNKNOWN = "unknown"
_BITS = {"AES_256": "256", "AES256": "256", "CHACHA20": "256", "AES_128": "128", "AES128": "128"}


def of_session(client: "Client", hostname: str, listener: str, name: str) -> dict[str, str]:
    """Those of the whole session; ``name`` is the client's verified one, or ``unknown``."""
    version, _, cipher = client.tls.partition(" ")
    address = f"IPv6:{client.peer}" if ":" in client.peer else client.peer
    return {
        "j": hostname,
        "v": f"Posthouse {__version__}",
        "_": f"{name} [{client.peer}]",
        "{daemon_name}": listener,
        "{client_addr}": address,
        "{client_name}": name,
        "{client_ptr}": name,
        "{client_port}": "0",
        "{client_resolve}": "OK" if name != UNKNOWN else "FAIL",
        "{tls_version}": version,
        "{cipher}": cipher,
        "{cipher_bits}": next((bits for word, bits in _BITS.items() if word in cipher), ""),
        "{auth_type}": client.mechanism if client.login else "",
        "{auth_authen}": client.login,
    }


def of_sender(trace_id: str, sender: str) -> dict[str, str]:
    """Those of a message: its id, its sender."""
    return {"i": trace_id, "{mail_addr}": sender, "{mail_host}": split(sender)[1], "{mail_mailer}": "smtp"}


def of_recipient(recipient: str) -> dict[str, str]:
    """Those of a recipient."""
    return {"{rcpt_addr}": recipient, "{rcpt_host}": split(recipient)[1], "{rcpt_mailer}": "smtp"}


def of_refused(status: str, text: str) -> dict[str, str]:
    """Those of a recipient that was refused, as Postfix tells them to whoever wants to know."""
    return {"{rcpt_addr}": text, "{rcpt_host}": status, "{rcpt_mailer}": "error"}
