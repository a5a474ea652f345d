"""An OpenID Connect issuer on loopback, with whatever faults a test wants of it."""

import json
import ssl
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

AUDIENCE = "mail.example.test"


class Issuer:
    """``keys`` are published, ``answers`` override a path's status and body; ``asked`` has the paths so far."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/realm"
        self.keys = [EC_KEY]
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.opaque: dict[str, dict] = {}
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.drip = threading.Event()

    def claims(self, **changes) -> dict:
        now = int(time.time())
        claims = {"iss": self.url, "aud": [AUDIENCE, "other"], "exp": now + 300, "email": "Alice@example.test"}
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, key=None, algorithm="ES256", header=None, **changes) -> str:
        key = key or self.keys[0]
        headers = {"alg": algorithm, "kid": key.kid, "x-of-their-own": 1, **(header or {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        registry = JWSRegistry({"x-of-their-own": HeaderParameter("theirs", int)}, [algorithm])
        with warnings.catch_warnings(action="ignore"):  # of EdDSA's name, which is old and in use
            return jwt.encode(headers, self.claims(**changes), key, registry=registry)

    def answer(self, path: str, body: bytes, authorization: str) -> tuple[int, bytes]:
        if path in self.answers:
            return self.answers[path]
        if path == "/realm/.well-known/openid-configuration":
            found = {"issuer": self.url, "jwks_uri": self.url + "/keys", "introspection_endpoint": self.url + "/ask"}
            return 200, json.dumps(found).encode()
        if path == "/realm/keys":
            return 200, json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()
        if path == "/realm/ask":
            self.authorizations.append(authorization)
            token = parse_qs(body.decode())["token"][0]
            return 200, json.dumps(self.opaque.get(token, {"active": False})).encode()
        return 404, b""


@contextmanager
def issuer(tls: ssl.SSLContext | None = None):
    """One that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.respond(b"")

        def do_POST(self):
            self.respond(self.rfile.read(int(self.headers["Content-Length"])))

        def respond(self, body):
            running.asked.append(self.path.rpartition("/")[2])
            status, content = running.answer(self.path, body, self.headers.get("Authorization", ""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", content.decode())
            self.end_headers()
            try:
                while content == b"drip" and not running.drip.wait(0.01):
                    self.wfile.write(b" ")
                self.wfile.write(content)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """A client that hangs up is none."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        running = Issuer(server, "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.drip.set()
            server.shutdown()
            thread.join()


EC_KEY = ECKey.generate_key("P-256", auto_kid=True)
OTHER_KEY = ECKey.generate_key("P-256", auto_kid=True)
RSA_KEY = RSAKey.generate_key(2048, auto_kid=True)
