"""Mail servers that are not ours, each between Posthouse and a sink: Postfix, Exim and OpenSMTPD from Debian.

Each takes everything, sends what is for example.test to Posthouse and everything else to the sink, and refuses
``gone@``. What they say of themselves: ``NAMES``; with ``tls`` they offer STARTTLS and insist on it towards us.
"""

import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import time
from pathlib import Path
from typing import Self

import trustme
from tests.interop.house import PATIENCE_SECONDS
from tests.interop.jail import unpack
from tests.interop.postfix import Postfix
from tests.ports import free_port

POSTFIX = """\
smtpd_tls_security_level = {offer}
smtpd_tls_chain_files = {pem}
smtp_tls_security_level = none
smtpd_recipient_restrictions =
    check_recipient_access inline:{{ {{ gone@ = 550 5.1.1 Nobody by that name }} }}, permit_mynetworks, reject
smtpd_tls_received_header = yes
smtputf8_enable = yes
transport_maps = inline:{{example.test=to_house:[127.0.0.1]:{house}}}
relayhost = [127.0.0.1]:{sink}
notify_classes =
delay_warning_time = 0
"""
POSTFIX_MASTER = "{port} inet n - n - - smtpd\nto_house unix - - n - - smtp -o smtp_tls_security_level=%s\n"

EXIM = """\
primary_hostname = exim.example.net
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
log_file_path = /var/log/exim4/%slog
keep_environment =
rfc1413_query_timeout = 0s
tls_advertise_hosts = {offer}
tls_certificate = /etc/peer.pem
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
begin acl
check_rcpt:
  deny local_parts = gone
       message = 550 5.1.1 Nobody by that name
  accept
begin routers
to_house:
  driver = manualroute
  domains = example.test
  transport = to_house
  route_data = 127.0.0.1
  self = send
to_sink:
  driver = manualroute
  transport = to_sink
  route_data = 127.0.0.1
  self = send
begin transports
to_house:
  driver = smtp
  port = {house}
  allow_localhost
  hosts_try_dane =
  {insist}
to_sink:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_try_dane =
  hosts_avoid_tls = *
begin retry
* * F,1h,1s
"""

OPENSMTPD = """\
pki peer cert "/etc/peer.pem"
pki peer key "/etc/peer.key"
listen on 127.0.0.1 port {port} hostname opensmtpd.example.net {offer}
action "house" relay host {insist}
action "sink" relay host "smtp+notls://127.0.0.1:{sink}"
match from any for rcpt-to "gone@{domain}" reject
match from any for domain "example.test" action "house"
match from any for any action "sink"
"""


class Peer:
    """One that runs in a jail; ``log`` is what it has logged so far."""

    def __init__(self, jail: Path, command: list[str], log: Path, port: int) -> None:
        self.port = port
        self._output = jail.with_name(f"{jail.name}.log")
        self._log = log
        self._command = ["chroot", str(jail), *command]

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.session().close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise AssertionError(f"{self._command} does not answer:\n{self.log}") from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        """Its processes are the session that was made for them."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def session(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=60)

    @property
    def log(self) -> str:
        texts = [path.read_text(errors="replace") for path in (self._output, self._log) if path.is_file()]
        return "\n".join(texts)


def postfix(directory: Path, domain: str, house: int, sink: int, *, tls: bool) -> Postfix:
    pem = directory / "peer.pem"
    _certificate().private_key_and_cert_chain_pem.write_to_path(str(pem))
    main = POSTFIX.format(offer="may" if tls else "none", pem=pem, house=house, sink=sink)
    return Postfix(directory, main, POSTFIX_MASTER % ("encrypt" if tls else "none"))


def exim(directory: Path, domain: str, house: int, sink: int, *, tls: bool) -> Peer:
    jail = unpack("exim4-daemon-light", "usr/sbin/exim4", directory, ["Debian-exim"])
    for place in ("var/spool/exim4", "var/log/exim4"):
        (jail / place).mkdir(parents=True, exist_ok=True)
        os.chown(jail / place, 990, 990)
    port = free_port()
    _write_certificate(jail / "etc/peer.pem")
    os.chown(jail / "etc/peer.pem", 990, 990)
    (jail / "etc/exim4").mkdir(exist_ok=True)
    (jail / "etc/exim4/exim4.conf").write_text(
        EXIM.format(
            port=port,
            house=house,
            sink=sink,
            offer="*" if tls else "",
            insist="hosts_require_tls = *\n  tls_verify_certificates =" if tls else "hosts_avoid_tls = *",
        )
    )
    return Peer(jail, ["/usr/sbin/exim4", "-bdf", "-q1s"], jail / "var/log/exim4/mainlog", port)


def opensmtpd(directory: Path, domain: str, house: int, sink: int, *, tls: bool) -> Peer:
    jail = unpack("opensmtpd", "usr/sbin/smtpd", directory, ["opensmtpd", "opensmtpq"])
    (jail / "var/lib/opensmtpd/empty").mkdir(parents=True, exist_ok=True)
    shutil.chown(jail / "usr/sbin/smtpctl", 0, 991)
    (jail / "usr/sbin/smtpctl").chmod(0o2755)
    port = free_port()
    _write_certificate(jail / "etc/peer.pem", jail / "etc/peer.key")
    (jail / "etc/mailname").write_text("opensmtpd.example.net\n")
    configuration = OPENSMTPD.format(
        port=port,
        domain=domain,
        sink=sink,
        offer="tls pki peer" if tls else "",
        insist=f'"smtp+tls://127.0.0.1:{house}" tls no-verify' if tls else f'"smtp+notls://127.0.0.1:{house}"',
    )
    (jail / "etc/smtpd.conf").write_text(configuration)
    return Peer(jail, ["/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"], jail / "no-other-log", port)


KINDS = {"postfix": postfix, "exim": exim, "opensmtpd": opensmtpd}


def _certificate() -> trustme.LeafCert:
    return trustme.CA().issue_cert("peer.example.net")


def _write_certificate(path: Path, key: Path | None = None) -> None:
    certificate = _certificate()
    if key is None:
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
    else:
        certificate.cert_chain_pems[0].write_to_path(str(path))
        certificate.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
