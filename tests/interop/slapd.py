"""OpenLDAP's server for a test: its own directory, certificate and ports; stopped by pid."""

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import trustme
from tests.ports import free_port

PATIENCE_SECONDS = 30.0
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {place}/slapd.pid
TLSCACertificateFile {place}/ca.pem
TLSCertificateFile {place}/server.pem
TLSCertificateKeyFile {place}/server.key
database mdb
suffix "dc=example,dc=test"
rootdn "cn=root,dc=example,dc=test"
rootpw root-secret
directory {place}/database
# Nobody in particular sees people: who searches has to say who that is.
access to dn.subtree="ou=people,dc=example,dc=test" attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=people,dc=example,dc=test"
  by dn.exact="cn=reader,dc=example,dc=test" read by anonymous auth by * none
access to attrs=userPassword by anonymous auth by * none
access to * by * read
"""
BASE = """
dn: dc=example,dc=test
objectClass: organization
objectClass: dcObject
o: Example
dc: example

dn: cn=reader,dc=example,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader-secret

dn: ou=people,dc=example,dc=test
objectClass: organizationalUnit
ou: people

dn: ou=elsewhere,dc=example,dc=test
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://127.0.0.9/ou=elsewhere,dc=example,dc=test
"""
PERSON = """
dn: uid={uid},ou=people,dc=example,dc=test
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
mail: {mail}
userPassword: {password}
"""


class Slapd:
    """``people``: (uid, mail, password) of each."""

    def __init__(self, program: str, place: Path, people: list[tuple[str, str, str]]) -> None:
        self.place = place
        # A copy: where AppArmor confines the installed one, it could not write here.
        self._program = shutil.copy(program, place / "slapd")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(place / "ca.pem"))
        certificate = authority.issue_cert("127.0.0.1", "localhost", "ldap.example.test")
        certificate.cert_chain_pems[0].write_to_path(str(place / "server.pem"))
        certificate.private_key_pem.write_to_path(str(place / "server.key"))
        (place / "database").mkdir()
        self.configuration = place / "slapd.conf"
        self.configuration.write_text(CONFIGURATION.format(place=place))
        entries = [PERSON.format(uid=uid, mail=mail, password=secret) for uid, mail, secret in people]
        self._run("-T", "add", "-f", self.configuration, stdin=BASE + "".join(entries))
        self.port, self.tls_port = free_port(), free_port()
        self.urls = {
            "ldap": f"ldap://127.0.0.1:{self.port}",
            "ldaps": f"ldaps://127.0.0.1:{self.tls_port}",
            "ldapi": f"ldapi://{place}/ldapi",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        listen = f"{self.urls['ldap']} {self.urls['ldaps']} ldapi://{quote(str(self.place / 'ldapi'), safe='')}"
        command = [self._program, "-d", "0", "-f", str(self.configuration), "-h", listen]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"slapd did not start: {command}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port), timeout=5):
            return True
        return False

    def _run(self, *arguments: object, stdin: str) -> None:
        command = [self._program, *map(str, arguments)]
        done = subprocess.run(command, input=stdin.encode(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
