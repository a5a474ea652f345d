"""Dovecot over Maildirs, set up for speed: login processes that stay, passwords in a file and in its cache."""

import os
import shutil
import subprocess

from bench import servers
from bench.accounts import DOMAIN, OWNER, address, stored_password

CONFIGURATION = """\
base_dir = {here}/run
state_dir = {here}/run/state
instance_name = bench
log_path = {here}/log
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
auth_cache_size = 10M
auth_cache_ttl = 1 hour
mail_location = maildir:{root}/%d/%n
first_valid_uid = 100
mail_max_userip_connections = 5000
default_process_limit = 2000
default_client_limit = 20000
default_vsz_limit = 1G
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {here}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={root}/%d/%n
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  service_count = 0
  process_min_avail = {cores}
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  service_count = 0
  process_min_avail = {cores}
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap {{
  process_limit = 2000
}}
service stats {{
  client_limit = 20000
}}
"""


def missing() -> str:
    """Why Dovecot can't take part here; empty if it can."""
    if not shutil.which("dovecot"):
        return "Dovecot is not installed (apt install dovecot-imapd dovecot-pop3d): its column stays empty"
    if not version().startswith("2.3."):
        return f"Dovecot {version()}: this configuration is for 2.3: its column stays empty"
    if os.geteuid() != 0:
        return "only root can start Dovecot: its column stays empty"
    return ""


def version() -> str:
    return servers.run("dovecot", "--version").split()[0]


class Dovecot:
    name = "Dovecot"
    smtp_port = 0

    def __init__(self, directory: str, names: list[str]) -> None:
        self.imap_port, self.pop3_port = servers.free_ports(2)
        self.mail_root = os.path.join(directory, "mail")
        self._log = os.path.join(directory, "log")
        self._configuration = os.path.join(directory, "dovecot.conf")
        self._process: subprocess.Popen[bytes] | None = None
        os.makedirs(os.path.join(directory, "run"))
        os.makedirs(os.path.join(self.mail_root, DOMAIN))
        os.chown(os.path.join(self.mail_root, DOMAIN), OWNER, OWNER)
        with open(self._configuration, "w") as file:
            file.write(
                CONFIGURATION.format(
                    here=directory,
                    root=self.mail_root,
                    owner=OWNER,
                    imap=self.imap_port,
                    pop3=self.pop3_port,
                    cores=len(os.sched_getaffinity(0)),
                )
            )
        with open(os.path.join(directory, "users"), "w") as file:
            file.writelines(f"{address(name)}:{stored_password(name)}::::::\n" for name in names)

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop the server
            )
        servers.await_greeting(self.imap_port, self._log, self._process)

    def stop(self) -> None:
        if self._process is not None:
            servers.end(self._process.pid, self._process)
            self._process = None

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def version(self) -> str:
        return f"Dovecot {version()}"
