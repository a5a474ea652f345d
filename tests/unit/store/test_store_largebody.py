"""Messages that are not held in memory."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.store import crlf
from posthouse.store.crlf import LargeBody

PIECES = [
    b"--a", b"--ab", b"--a--", b"\r\n", b"\n", b"\r", b"x" * 20, b"Content-Type: multipart/mixed; boundary=a\r\n",
    b"Content-Type: multipart/mixed; boundary=ab\r\n", b"Content-Type: message/rfc822\r\n", b"\r\n\r\n", b"--", b"y",
]  # fmt: skip


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """``body(data)``: these octets as a LargeBody."""
    folder = tmp_path_factory.mktemp("large")
    opened: list[LargeBody] = []

    def begin(data: bytes) -> LargeBody:
        (folder / "message").write_bytes(data)
        opened.append(LargeBody(os.open(folder / "message", os.O_RDONLY), str(folder), convert=False))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.integers(1, 40))
def test_it_has_the_structure_that_the_same_octets_in_memory_have(body, data: bytes, block: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crlf, "_BLOCK", block)
        large = body(data)
        assert mime.scan(large) == mime.scan(data)
        for start in (0, 1, len(data) // 2, len(data)):
            for wanted in (b"\n", b"--a", b"--ab--", b"x" * 20):
                assert large.find(wanted, start) == data.find(wanted, start)
                assert large.startswith((wanted, b"\r\n"), start) == data.startswith((wanted, b"\r\n"), start)


def test_its_structure_costs_a_window_of_memory(body, monkeypatch):
    data = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n" + b"line\r\n" * 1_000_000 + b"--a--\r\n"
    large = body(data)
    asked: list[int] = []
    read = LargeBody._read
    monkeypatch.setattr(
        LargeBody, "_read", lambda self, start, end: asked.append(end - start) or read(self, start, end)
    )
    assert mime.scan(large).children[0].lines == 999_999
    assert max(asked) <= 1 << 20
    assert sum(asked) < 3 * len(data)
