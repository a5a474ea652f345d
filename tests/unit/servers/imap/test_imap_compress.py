"""COMPRESS=DEFLATE over a socket (RFC 4978)."""

import zlib

import pytest
from tests.unit.servers.imap.conftest import RawClient


class CompressedClient:
    """What a client sends and hears once the connection is compressed."""

    def __init__(self, client: RawClient) -> None:
        self._socket = client._socket
        self._to = zlib.compressobj(wbits=-15)
        self._from = zlib.decompressobj(-15)
        self._heard = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(self._to.compress(data) + self._to.flush(zlib.Z_SYNC_FLUSH))

    def until(self, end: bytes) -> bytes:
        """Everything up to the line that begins with ``end``, that included."""
        while not any(line.startswith(end) for line in self._heard.splitlines(keepends=True) if line[-1:] == b"\n"):
            data = self._socket.recv(65_536)
            assert data, f"the connection ended after {self._heard[-200:]!r}"
            self._heard += self._from.decompress(data)
        heard, self._heard = self._heard, b""
        return heard

    def command(self, line: bytes) -> bytes:
        self.send(b"c " + line + b"\r\n")
        return self.until(b"c ")


@pytest.fixture
def compressed(client):
    assert b"COMPRESS=DEFLATE" in client.ok("CAPABILITY")[0]
    assert client.command("COMPRESS DEFLATE")[1].startswith(b"OK")
    return CompressedClient(client)


def test_everything_goes_on_compressed(compressed, connect, live):
    message = b"Subject: x\r\n\r\n" + b"".join(b"%d\r\n" % number for number in range(200_000))
    assert b"c OK" in compressed.command(b"APPEND INBOX {%d+}\r\n%b" % (len(message), message))
    compressed.command(b"SELECT INBOX")
    assert message in compressed.command(b"FETCH 1 BODY.PEEK[]")
    compressed.send(b"i IDLE\r\n")
    compressed.until(b"+ ")
    for number in (2, 3):
        connect(live).append(b"Subject: y\r\n\r\n")
        compressed.until(b"* %d EXISTS" % number)
    compressed.send(b"DONE\r\n")
    compressed.until(b"i OK")


def test_a_connection_is_compressed_once(compressed):
    assert b"c NO [COMPRESSIONACTIVE]" in compressed.command(b"COMPRESS DEFLATE")


def test_other_compressions_are_not_known(client, connect, live):
    assert client.refused("COMPRESS LZ77").startswith(b"BAD")
    assert connect(live, login=False).refused("COMPRESS DEFLATE").startswith(b"BAD")


def test_what_is_not_compressed_ends_the_connection(compressed):
    compressed._socket.sendall(b"\xff\xff\xff in clear\r\n")
    assert compressed.until(b"* BYE")


def test_it_ends_with_the_login(client, compressed):
    """RFC 8437 §4.1."""
    assert b"c OK" in compressed.command(b"UNAUTHENTICATE")
    while not compressed._from.eof:
        compressed._from.decompress(compressed._socket.recv(100))
    assert client.ok("LOGIN alice@example.test secret") is not None


def test_what_ended_in_the_same_flight_is_read_in_clear(client, compressed):
    compressed._socket.sendall(
        compressed._to.compress(b"u UNAUTHENTICATE\r\n")
        + compressed._to.flush(zlib.Z_FINISH)
        + b"l LOGIN alice@example.test secret\r\n"
    )
    assert b"u OK" in compressed.until(b"u ")
    while not compressed._from.eof:
        compressed._from.decompress(compressed._socket.recv(100))
    heard = compressed._from.unused_data
    while not heard.endswith(b"\r\n"):
        heard += compressed._socket.recv(65_536)
    assert heard.startswith(b"l OK")
