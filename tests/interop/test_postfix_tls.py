"""Mail from Posthouse to a real Postfix: with DANE, with any TLS, and without."""

import hashlib
import re
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from tests.interop.house import House, mail, until
from tests.interop.postfix import Postfix
from tests.validatingserver import ValidatingServer

from posthouse.runtime.certificate import public_key_info

CA = trustme.CA()
CERTIFICATE = CA.issue_cert("mx.postfix.example")
MAIN = """
mydestination =
virtual_mailbox_domains = postfix.example
virtual_transport = discard
smtpd_tls_loglevel = 1
"""


def digest(pem, selector):
    der = ssl.PEM_cert_to_DER_cert(pem.bytes().decode())
    return hashlib.sha256(public_key_info(der) if selector else der).hexdigest()


@pytest.fixture
def directory():
    """Where Postfix's user may go, which is not so with pytest's own."""
    with tempfile.TemporaryDirectory(prefix="posthouse-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextmanager
def sending(directory, need, *, tls=True, records=(), header=b""):
    """A house that sends by way of what a zone says about postfix.example, and the Postfix that takes that."""
    need("postfix")
    main = MAIN
    if tls:
        pem = directory / "chain.pem"
        blobs = [CERTIFICATE.private_key_pem, *CERTIFICATE.cert_chain_pems, CA.cert_pem]
        pem.write_bytes(b"".join(blob.bytes() for blob in blobs))
        main += f"smtpd_tls_chain_files = {pem}\nsmtpd_tls_security_level = may\n"
    zone = {"postfix.example": ["MX 10 mx.postfix.example."], "mx.postfix.example": ["A 127.0.0.1"]}
    with Postfix(directory / "postfix", main) as postfix, ValidatingServer(zone, ("*",)) as names:
        if records:
            zone[f"_{postfix.port}._tcp.mx.postfix.example"] = list(records)
        configuration = (
            f'[dns]\nservers = ["{names.address}"]\n[smtp]\nrelayhost = "postfix.example:{postfix.port}"\n'
        )
        (directory / "house").mkdir()
        house = House(directory / "house", configuration, workers=1)
        house.cli("domain", "add", "example.test")
        house.add_account("alice@example.test")
        house.start()
        try:
            with house.submission("alice@example.test") as session:
                session.sendmail("alice@example.test", ["them@postfix.example"], header + mail("hello"))
            yield house, postfix
        finally:
            house.stop()


def taken(postfix):
    return until(lambda: re.search(r"to=<them@postfix.example>.*status=sent", postfix.log))


@pytest.mark.parametrize(
    "record",
    [
        f"TLSA 3 1 1 {digest(CERTIFICATE.cert_chain_pems[0], 1)}",
        f"TLSA 2 0 1 {digest(CA.cert_pem, 0)}",
    ],
    ids=["DANE-EE", "DANE-TA"],
)
def test_a_postfix_that_its_records_describe_gets_the_mail_over_tls(directory, need, record):
    with sending(directory, need, records=[record]) as (_, postfix):
        assert taken(postfix)
        assert "Anonymous TLS connection established from" in postfix.log


def test_a_postfix_that_its_records_do_not_describe_gets_nothing(directory, need):
    with sending(directory, need, records=[f"TLSA 3 1 1 {'00' * 32}"]) as (house, postfix):
        deferred = house.wait_for("deferred", recipient="them@postfix.example")
        assert "4.7.5" in deferred["reply"]
        assert "MAIL FROM" not in postfix.log
        assert "status=sent" not in postfix.log


def test_a_postfix_that_its_records_do_not_describe_gets_what_says_that_tls_is_not_required(directory, need):
    """RFC 8689 §3: from the header field at reception, by way of the queue, to the relay."""
    header = b"TLS-Required: No\r\n"
    with sending(directory, need, records=[f"TLSA 3 1 1 {'00' * 32}"], header=header) as (house, postfix):
        assert taken(postfix)
        assert "deferred" not in [line["event"] for line in house.log]


@pytest.mark.parametrize("tls", [True, False])
def test_without_records_a_postfix_gets_the_mail_with_tls_if_it_has_any(directory, need, tls):
    with sending(directory, need, tls=tls) as (_, postfix):
        assert taken(postfix)
        assert ("TLS connection established from" in postfix.log) == tls
