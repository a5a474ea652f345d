"""A name server of the test's own on loopback, over UDP, in a thread: it answers from a zone that may change."""

import contextlib
import socket
import threading
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT = None


class NameServer:
    """``zone``: name -> list of "TYPE data", or a response code, or ``SILENT``; other names do not exist.

    ``asked`` has every name that was asked for.
    """

    def __init__(self, zone: dict) -> None:
        self.zone = zone
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(65_536)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(OSError, dns.exception.DNSException):
                if answer := self._answer(data):
                    self._socket.sendto(answer, peer)

    def _answer(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append(name)
        found = self.zone.get(name, dns.rcode.NXDOMAIN)
        if found is SILENT:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if not isinstance(found, list):
            response.set_rcode(found)
            return response.to_wire()
        for record in found:
            kind, _, value = record.partition(" ")
            if kind == dns.rdatatype.to_text(question.rdtype):
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, value))
        return response.to_wire()
