"""``posthouse metrics``: what the running server has counted and measured."""

import http.client
import json
import socket

from posthouse.base.errors import TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.config.endpoints import Endpoint, parse_endpoint

SECONDS = 10.0


def metrics(as_json: Json = False) -> None:
    """Print what the running server has counted and measured, as Prometheus reads it."""
    addresses = terminal.settings().listen.metrics
    if not addresses:
        raise TryLater("listen.metrics is empty: the server tells nobody")
    endpoint = parse_endpoint(addresses[0])
    try:
        text = _fetch(endpoint, "/metrics.json" if as_json else "/metrics")
    except (OSError, http.client.HTTPException) as error:
        raise TryLater(f"no answer from {endpoint} (listen.metrics): {error}; is the server running?") from error
    if as_json:
        terminal.print_json(json.loads(text))
    else:
        print(text, end="")


def _fetch(endpoint: Endpoint, path: str) -> str:
    connection = http.client.HTTPConnection(_HOSTS.get(endpoint.host, endpoint.host), endpoint.port, timeout=SECONDS)
    if endpoint.path:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(SECONDS)
        connection.sock.connect(endpoint.path)
    try:
        connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"HTTP status {response.status}")
        return response.read().decode()
    finally:
        connection.close()


_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is asked here
