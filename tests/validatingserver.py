"""Plays a validating resolver for tests, and whatever else a zone can do to one."""

import socket
import threading
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class ValidatingServer:
    """Answers on a free UDP port of 127.0.0.1, from a thread of its own.

    ``zone``: name -> list of "TYPE data" or "OWNER!TYPE data", a response code, or None for silence; also by
    "name TYPE" where it depends on the type. ``secure``: names whose answers have the AD bit if that is asked for.
    """

    def __init__(self, zone: dict[str, Any], secure: tuple[str, ...] = ()) -> None:
        self.zone = zone
        self.secure = set(secure)
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(65_536)
            if not data:
                return
            answer = self.answer(dns.message.from_wire(data))
            if answer is not None:
                self._socket.sendto(answer, client)

    def answer(self, query: dns.message.Message) -> bytes | None:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        found = self.zone.get(f"{name} {kind}", self.zone.get(name, dns.rcode.NXDOMAIN))
        if found is None or isinstance(found, bytes):
            return found
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if query.flags & dns.flags.AD and self.secure & {name, f"{name} {kind}", "*"}:
            response.flags |= dns.flags.AD
        if not isinstance(found, list):
            response.set_rcode(found)
            return response.to_wire()
        for record in found:
            owner, _, rest = record.rpartition("!")
            owner = owner or name
            record_kind, _, value = rest.partition(" ")
            if record_kind in ("CNAME", kind):
                response.answer.append(dns.rrset.from_text(f"{owner}.", 60, "IN", record_kind, value))
        return response.to_wire()
