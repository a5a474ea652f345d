"""Binding addresses, and what an operator reads when that fails."""

import contextlib
import os
import socket

import pytest

from posthouse.config.endpoints import Endpoint, parse_endpoint
from posthouse.runtime.listener import ListenError, bind


def close(listener):
    for sock in set(listener.sockets):
        sock.close()


def test_every_worker_has_a_socket_of_its_own_on_one_port():
    listener = bind("imap", parse_endpoint("127.0.0.1:0"), 3)
    try:
        assert len({sock.fileno() for sock in listener.sockets}) == 3
        assert {sock.getsockname()[1] for sock in listener.sockets} == {listener.endpoint.port}
    finally:
        close(listener)


def test_a_port_in_use_is_named_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port} for smtp: .*in use.*listen\.smtp"):
            bind("smtp", Endpoint("127.0.0.1", port), 1)


def test_a_second_server_is_not_let_in_beside_the_first():
    """SO_REUSEPORT alone would share the port between two servers of one user, and the mail with it."""
    first = bind("smtp", parse_endpoint("127.0.0.1:0"), 2)
    try:
        with pytest.raises(ListenError):
            bind("smtp", first.endpoint, 2)
    finally:
        close(first)


def test_a_unix_socket_may_be_used_by_whoever_gets_to_it(tmp_path):
    path = tmp_path / "lmtp"
    before = os.umask(0o077)
    try:
        close(bind("lmtp", Endpoint("", 0, str(path)), 1))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666


def test_a_unix_socket_left_by_a_dead_server_is_taken_over(tmp_path):
    path = str(tmp_path / "lmtp")
    close(bind("lmtp", Endpoint("", 0, path), 1))
    listener = bind("lmtp", Endpoint("", 0, path), 1)
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)
        with pytest.raises(ListenError, match="another process answers there"):
            bind("lmtp", Endpoint("", 0, path), 1)
    finally:
        close(listener)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:25", Endpoint("127.0.0.1", 25)),
        ("[::1]:25", Endpoint("::1", 25)),
        (":25", Endpoint("0.0.0.0", 25)),
        ("*:25", Endpoint("0.0.0.0", 25)),
        ("unix:/run/x", Endpoint("", 0, "/run/x")),
    ],
)
def test_addresses_are_read(text, expected):
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "25", "host", "host:", "host:99999", "host:²", "::1:25", "unix:relative"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|brackets|starts with"):
        parse_endpoint(text)
