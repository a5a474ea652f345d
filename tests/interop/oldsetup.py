"""The classic set-up for real: MariaDB with the five tables, Postfix with mysql maps, Dovecot reading the same rows.

Everything is in folders of its own on free ports of 127.0.0.1. The files belong to ``nobody``, whom every system has.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from tests.databases import TestDatabase, new_folder, program
from tests.interop.postfix import Postfix
from tests.ports import free_port

PATIENCE_SECONDS = 60.0
OWNER = pwd.getpwnam("nobody")
DOMAIN = "isp.test"
# Dovecot's connect line knows no way to write a blank or a quote.
USER, PASSWORD = "oldsetup", "old-secret"

TABLES = """
CREATE TABLE alias (id int(11) NOT NULL auto_increment, alias varchar(128) NOT NULL default '',
  destination varchar(128) NOT NULL default '', PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE relocated (id int(11) NOT NULL auto_increment, email varchar(128) NOT NULL default '',
  destination varchar(128) NOT NULL default '', PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE transport (id int(11) NOT NULL auto_increment, domain varchar(128) NOT NULL default '',
  destination varchar(128) NOT NULL default '', PRIMARY KEY (id), UNIQUE KEY domain (domain))
  ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE users (id int(11) NOT NULL auto_increment, email varchar(128) NOT NULL default '',
  clear varchar(128) NOT NULL default '', name tinytext NOT NULL, uid int(11) NOT NULL default '1001',
  gid int(11) NOT NULL default '1001', homedir tinytext NOT NULL, maildir tinytext NOT NULL,
  quota tinytext NOT NULL, postfix enum('n','y') NOT NULL default 'y',
  PRIMARY KEY (id), UNIQUE KEY email (email)) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE virtual (id int(11) NOT NULL auto_increment, email varchar(128) NOT NULL default '',
  destination varchar(128) NOT NULL default '', PRIMARY KEY (id), KEY email (email))
  ENGINE=InnoDB DEFAULT CHARSET=latin1;
"""

# Settings that stand twice count as they stand last.
MAIN = """\
mydestination = localhost
virtual_mailbox_base = {root}
virtual_mailbox_limit = 0
virtual_minimum_uid = 100
virtual_uid_maps = mysql:{here}/etc/uid.cf
virtual_gid_maps = mysql:{here}/etc/gid.cf
virtual_alias_maps = mysql:{here}/etc/virtual.cf
virtual_mailbox_maps = mysql:{here}/etc/mailbox.cf
virtual_mailbox_domains = mysql:{here}/etc/domains.cf
transport_maps = mysql:{here}/etc/transport.cf
relocated_maps = mysql:{here}/etc/relocated.cf
"""
SERVICES = """\
{port} inet n - n - - smtpd
virtual unix - n n - - virtual
"""

MAPS = {
    "virtual": ("virtual", "destination", "email = '%s'"),
    "mailbox": ("users", "maildir", "email = '%s' AND postfix = 'y'"),
    "domains": ("transport", "domain", "domain = '%s' AND destination LIKE 'virtual:%%'"),
    "transport": ("transport", "destination", "domain = '%s'"),
    "relocated": ("relocated", "destination", "email = '%s'"),
    "uid": ("users", "uid", "email = '%s'"),
    "gid": ("users", "gid", "email = '%s'"),
}

DOVECOT = """\
base_dir = {here}/run
state_dir = {here}/run/state
instance_name = old
log_path = {here}/log
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5
first_valid_uid = 100
mail_location = maildir:{root}/%d/%n
passdb {{
  driver = sql
  args = {here}/sql.conf
}}
userdb {{
  driver = sql
  args = {here}/sql.conf
}}
namespace inbox {{
  inbox = yes
  separator = .
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

DOVECOT_SQL = """\
driver = mysql
connect = host={socket} dbname={database} user={user} password={password}
default_pass_scheme = PLAIN
password_query = SELECT email AS user, clear AS password FROM users WHERE email = '%u' AND postfix = 'y'
user_query = SELECT CONCAT('{root}/', maildir) AS home, CONCAT('maildir:{root}/', maildir) AS mail, uid, gid \\
  FROM users WHERE email = '%u'
"""


class OldSetup:
    """``root`` is the mail root; ``smtp_port``, ``imap_port`` and ``pop3_port`` are the old programs'."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database
        self.folder = new_folder("nobody")
        self.root = self.folder / "mail"
        self.root.mkdir()
        os.chown(self.root, OWNER.pw_uid, OWNER.pw_gid)
        self.imap_port, self.pop3_port = free_port(), free_port()
        self._postfix = Postfix(self.folder / "postfix", MAIN.replace("{root}", str(self.root)), SERVICES)
        self.smtp_port = self._postfix.port
        self._postfix_runs = ExitStack()
        self._dovecot = self.folder / "dovecot"
        self._dovecot_process: subprocess.Popen[bytes] | None = None
        database.execute(
            f"CREATE OR REPLACE USER {USER}@localhost IDENTIFIED BY '{PASSWORD}'; "
            f"GRANT SELECT ON {database.name}.* TO {USER}@localhost"
        )
        self._write_maps()
        self._set_up_dovecot()

    def insert(self, table: str, **values: object) -> None:
        """A row, by hand."""
        columns = ", ".join(values)
        shown = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values.values())
        self.database.execute(f"INSERT INTO `{table}` ({columns}) VALUES ({shown})")

    def add_user(self, name: str, password: str, **more: object) -> None:
        defaults = {"name": name.title(), "homedir": str(self.root), "maildir": f"{DOMAIN}/{name}/", "quota": ""}
        ids = {"uid": OWNER.pw_uid, "gid": OWNER.pw_gid}
        self.insert("users", email=f"{name}@{DOMAIN}", clear=password, **{**defaults, **ids, **more})

    def tables(self) -> str:
        """The five tables, their definitions and their rows."""
        five = ("alias", "relocated", "transport", "users", "virtual")
        return "".join(
            self.database.execute(f"SHOW CREATE TABLE `{name}`; SELECT * FROM `{name}` ORDER BY id") for name in five
        )

    def start(self) -> None:
        self._postfix_runs.enter_context(self._postfix)
        self.start_dovecot()

    def start_dovecot(self) -> None:
        with (self._dovecot / "out").open("ab") as out:
            self._dovecot_process = subprocess.Popen(
                [program("dovecot"), "-F", "-c", str(self._dovecot / "dovecot.conf")], stdout=out, stderr=out
            )
        _await(self.imap_port, self._dovecot / "log")

    def stop_dovecot(self) -> None:
        if self._dovecot_process is not None:
            self._dovecot_process.terminate()
            self._dovecot_process.wait(PATIENCE_SECONDS)
            self._dovecot_process = None

    def stop(self) -> None:
        self.stop_dovecot()
        self._postfix_runs.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_maps(self) -> None:
        for name, (table, column, where) in MAPS.items():
            (self._postfix.directory / "etc" / f"{name}.cf").write_text(
                f"hosts = unix:{self.database.server.socket}\nuser = {USER}\npassword = {PASSWORD}\n"
                f"dbname = {self.database.name}\nquery = SELECT {column} FROM `{table}` WHERE {where}\n"
            )

    def _set_up_dovecot(self) -> None:
        here = self._dovecot
        (here / "run").mkdir(parents=True)
        (here / "dovecot.conf").write_text(
            DOVECOT.format(here=here, root=self.root, imap=self.imap_port, pop3=self.pop3_port)
        )
        (here / "sql.conf").write_text(
            DOVECOT_SQL.format(
                socket=self.database.server.socket,
                database=self.database.name,
                user=USER,
                password=PASSWORD,
                root=self.root,
            )
        )


def _await(port: int, log: Path) -> None:
    """Wait until a server greets."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                if sock.recv(512):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"nothing greets on port {port}:\n{log.read_text() if log.exists() else ''}")
