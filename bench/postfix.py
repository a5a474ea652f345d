"""Postfix as final destination: its own virtual(8) delivers to Maildirs, look-ups are in indexed files.

The kindest set-up to it: no SQL, no LMTP hop, no content filter. Everything else as shipped: its queue file is
synced before the 250, and so is the Maildir file. No daemon runs in a chroot, for which its queue lacks the files.
"""

import os
import shutil

from bench import servers
from bench.accounts import DOMAIN, OWNER, address, maildir

MAIN = """\
compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/state
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.{domain}
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
maillog_file = {here}/log
maillog_file_prefixes = {here}
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {root}
virtual_mailbox_maps = {kind}:{here}/etc/mailboxes
virtual_mailbox_limit = 0
virtual_minimum_uid = 100
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
relayhost = [127.0.0.1]:{relay}
"""

# master(5): service, type, private, unprivileged, chroot, wakeup, maximum of processes, program.
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why Postfix can't take part here; empty if it can."""
    if not shutil.which("postfix"):
        return "Postfix is not installed (apt install postfix): its column stays empty"
    if os.geteuid() != 0:
        return "only root can start Postfix: its column stays empty"
    return ""


class Postfix:
    name = "Postfix"
    imap_port = 0
    pop3_port = 0

    def __init__(self, directory: str, names: list[str], relay_port: int) -> None:
        (self.smtp_port,) = servers.free_ports(1)
        self._here = directory
        self._started = False
        self.mail_root = os.path.join(directory, "mail")
        self._etc = os.path.join(directory, "etc")
        self._log = os.path.join(directory, "log")
        for name in ("etc", "spool", "state", "mail"):
            os.makedirs(os.path.join(directory, name))
        shutil.chown(os.path.join(directory, "state"), "postfix")
        kind = servers.run("postconf", "-h", "default_database_type")
        self._write(
            "main.cf",
            MAIN.format(here=directory, domain=DOMAIN, root=self.mail_root, kind=kind, owner=OWNER, relay=relay_port),
        )
        self._write("master.cf", MASTER.format(port=self.smtp_port))
        self._write("mailboxes", "".join(f"{address(name)} {maildir(name)}\n" for name in names))
        servers.run("postmap", "-c", self._etc, f"{kind}:{self._etc}/mailboxes")

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self._etc, name), "w") as file:
            file.write(text)

    def start(self) -> None:
        servers.run("postfix", "-c", self._etc, "start")
        self._started = True
        servers.await_greeting(self.smtp_port, self._log)

    def stop(self) -> None:
        # The file with the process id outlives the process.
        if self._started:
            servers.end(self.pid())
            self._started = False

    def pid(self) -> int:
        with open(os.path.join(self._here, "spool", "pid", "master.pid")) as file:
            return int(file.read())

    def version(self) -> str:
        return f"Postfix {servers.run('postconf', '-h', 'mail_version')}"
