"""Milters of others, as providers run them, at our doors."""

import base64
import smtplib
import subprocess

import pytest
from tests.interop.milters import Program, free_port
from tests.running import RunningServer

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
TAGGED = GTUBE.replace(b"XJS", b"YJS", 1)
"""rspamd's own: what it wants to have a field added to."""
MESSAGE = (
    b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: signed\r\n and folded\r\n"
    b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\nSome text.\r\n.\r\n\r\n"
)


@pytest.fixture(scope="module")
def dkim(need, tmp_path_factory):
    """opendkim twice: one signs what users send, one verifies what comes in. Their sockets."""
    program = need("opendkim")
    place = tmp_path_factory.mktemp("opendkim")
    place.chmod(0o755)
    key, public = place / "key.pem", place / "keys"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    der = subprocess.run(
        ["openssl", "rsa", "-in", str(key), "-pubout", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    public.write_text(f"sel._domainkey.example.test v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}\n")
    common = f"Syslog no\nRequireSafeKeys no\nUMask 000\nOversignHeaders From\nTestPublicKeys {public}\n"
    running = []
    for mode, more in (
        ("s", f"Domain example.test\nSelector sel\nKeyFile {key}\n"),
        ("v", "InternalHosts /dev/null\n"),
    ):
        socket, config = place / f"{mode}.sock", place / f"{mode}.conf"
        config.write_text(f"{common}Mode {mode}\nSocket local:{socket}\n{more}")
        running.append(Program([program, "-f", "-x", str(config)], socket, place / f"{mode}.log"))
    yield [place / f"{mode}.sock" for mode in "sv"]
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def rspamd(need, tmp_path_factory):
    """rspamd with nothing but its built-in test strings. Where its milter and its HTTP listen."""
    program = need("rspamd")
    place = tmp_path_factory.mktemp("rspamd")
    port, socket, config = free_port(), place / "milter.sock", place / "rspamd.conf"
    place.chmod(0o755)
    (place / "tlds").write_text("com\norg\n")  # with all of them it takes half a minute to start
    config.write_text(
        f"""
options {{
  url_tld = "{place}/tlds";
  pidfile = "{place}/pid"; hs_cache_dir = "{place}"; tempdir = "{place}"; enable_test_patterns = true;
  dns {{ timeout = 0.1s; retransmits = 1; nameserver = ["127.0.0.1:9"]; }}
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 15; add_header = 6; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
worker "rspamd_proxy" {{
  bind_socket = "{socket} mode=0666"; milter = yes; count = 1; timeout = 30s; spam_header = "X-Spam";
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""
    )
    running = Program([program, "-f", "-i", "-c", str(config)], socket, place / "log")
    yield socket, port
    running.stop()


@pytest.fixture(scope="module")
def house(dkim, rspamd, tmp_path_factory):
    signer, verifier = dkim
    tables = (
        f'[milters.rspamd]\naddress = "unix:{rspamd[0]}"\nlisteners = ["smtp"]\n'
        f'[milters.signer]\naddress = "unix:{signer}"\nlisteners = ["submission"]\n'
        f'[milters.verifier]\naddress = "unix:{verifier}"\n'
    )
    server = RunningServer(tmp_path_factory.mktemp("house"), tables, workers=1)
    server.cli("domain", "add", "example.test")
    for name in ("alice", "bob"):
        server.add_account(f"{name}@example.test")
    server.start()
    yield server
    server.stop()


def delivered(house: RunningServer, trace: str) -> bytes:
    folder = house.data / "mail" / "example.test" / "bob" / "new"
    found = [path.read_bytes() for path in folder.iterdir()]
    return next(message for message in found if trace.encode() in message)


def send(house: RunningServer, message: bytes, sender: str = "alice@far.example") -> tuple[int, str]:
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"], timeout=60) as smtp:
        smtp.ehlo("client.far.example")
        smtp.mail(sender)
        smtp.rcpt("bob@example.test")
        try:
            code, text = smtp.data(message)
        except smtplib.SMTPDataError as error:
            code, text = error.smtp_code, error.smtp_error
        return code, text.decode()


def submit(house: RunningServer, message: bytes) -> bytes:
    with smtplib.SMTP_SSL("127.0.0.1", house.ports["submissions"], timeout=60) as smtp:
        smtp.login("alice@example.test", "secret")
        smtp.mail("alice@example.test")
        smtp.rcpt("bob@example.test")
        _, text = smtp.data(message)
    return delivered(house, text.decode().rpartition(" ")[2])


def test_opendkim_signs_what_a_user_sends_and_finds_it_good_or_bad_when_it_comes_back(house):
    signed = submit(house, MESSAGE).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert b"DKIM-Signature: v=1; a=rsa-sha256;" in signed
    assert signed.endswith(MESSAGE.partition(b"\r\n\r\n")[2])
    signature = signed[signed.index(b"DKIM-Signature") :]
    good = send(house, signature)
    bad = send(house, signature.replace(b"Some text", b"Same text"))
    assert b"dkim=pass" in delivered(house, good[1].rpartition(" ")[2])
    assert b"dkim=fail" in delivered(house, bad[1].rpartition(" ")[2])


def test_rspamd_refuses_tags_and_lets_through(house):
    refused = send(house, MESSAGE + GTUBE + b"\r\n")
    assert refused[0] == 554, refused
    tagged = send(house, MESSAGE + TAGGED + b"\r\n")
    assert b"\nX-Spam: Yes" in delivered(house, tagged[1].rpartition(" ")[2]), tagged
    clean = send(house, MESSAGE)
    assert b"X-Spam: Yes" not in delivered(house, clean[1].rpartition(" ")[2])
