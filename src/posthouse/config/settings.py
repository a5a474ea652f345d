"""Every setting, its meaning and its one default.

The attribute docstrings are the reference: ``posthouse config reference`` prints them. Paths are relative to
``data_dir`` unless absolute. All objects are frozen; a reload makes new ones.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: lists of ``host:port``, ``[v6]:port`` or ``unix:/path``; an empty list turns one off."""

    smtp: tuple[str, ...] = ()
    """Mail from other servers. Default: port 25 of all addresses as root, 127.0.0.1:2525 otherwise."""
    submission: tuple[str, ...] = ()
    """Mail from our own users, STARTTLS (RFC 6409). Default: port 587, or 127.0.0.1:2587."""
    submissions: tuple[str, ...] = ()
    """Mail from our own users, TLS from the first byte (RFC 8314). Default: port 465, or 127.0.0.1:2465."""
    imap: tuple[str, ...] = ()
    """IMAP with STARTTLS. Default: port 143, or 127.0.0.1:2143."""
    imaps: tuple[str, ...] = ()
    """IMAP, TLS from the first byte. Default: port 993, or 127.0.0.1:2993."""
    pop3: tuple[str, ...] = ()
    """POP3 with STLS. Default: port 110, or 127.0.0.1:2110."""
    pop3s: tuple[str, ...] = ()
    """POP3, TLS from the first byte. Default: port 995, or 127.0.0.1:2995."""
    lmtp: tuple[str, ...] = ()
    """LMTP for other programs of this host (RFC 2033). Default: 127.0.0.1:24, or 127.0.0.1:2424."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate."""

    certificate: str = "tls/certificate.pem"
    """PEM file, the server's certificate first, then the chain. Made, self-signed, if neither file exists."""
    key: str = "tls/key.pem"
    """PEM file with the private key."""


@dataclass(frozen=True, slots=True)
class Database:
    """The directory of domains, accounts and addresses."""

    url: str = "sqlite:posthouse.db"
    """``sqlite:PATH``."""


@dataclass(frozen=True, slots=True)
class Smtp:
    """Receiving and relaying."""

    mynetworks: tuple[str, ...] = ()
    """Networks whose hosts may relay without logging in. Nobody by default."""
    max_size_bytes: int = 52_428_800
    """Largest message that is accepted."""
    max_recipients: int = 1000
    """Most recipients of one message (RFC 5321 §4.5.3.1.8 asks for at least 100)."""
    relayhost: str = ""
    """Where all outgoing mail goes: ``host``, ``host:port``, or ``[host]:port`` (no MX look-up). Empty: by MX."""
    timeout_seconds: int = 300
    """How long a silent client is waited for (RFC 5321 §4.5.3.2.7)."""
    recipient_delimiter: str = "+"
    """Separates ``user`` from ``ext`` in ``user+ext@domain``; empty turns that off."""
    catchall: str = "after-accounts"
    """``after-accounts``: a real account wins over its domain's catch-all. ``before-accounts``: Postfix's order."""


@dataclass(frozen=True, slots=True)
class Imap:
    """Reading mail over IMAP."""

    timeout_seconds: int = 1800
    """How long a silent client is kept (RFC 3501 §5.4 asks for at least 30 minutes)."""
    max_append_bytes: int = 104_857_600
    """Largest message that APPEND accepts."""


@dataclass(frozen=True, slots=True)
class Pop3:
    """Reading mail over POP3."""

    timeout_seconds: int = 600
    """How long a silent client is kept (RFC 1939 §3 asks for at least 10 minutes)."""


@dataclass(frozen=True, slots=True)
class Auth:
    """Logging in."""

    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    """SASL mechanisms to offer. ``CRAM-MD5`` works only for accounts whose password is stored as plain text; programs
    that are offered it use it without asking, so add it where all are."""
    trusted_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose hosts may log in with a password on a connection without TLS."""
    plain_crypt: bool = False
    """Whether a ``clear`` without a ``{SCHEME}`` prefix that looks like a crypt(3) string is one."""


@dataclass(frozen=True, slots=True)
class Mail:
    """Where and how messages are stored."""

    root: str = "mail"
    """The mail root, Postfix's ``virtual_mailbox_base``: every ``maildir`` in ``users`` is below it."""
    durability: str = "journal"
    """``journal``: group commit into the intake journal. ``fsync``: a sync for each file, for mail roots on NFS."""
    minimum_uid: int = 100
    """Accounts whose ``uid`` or ``gid`` in ``users`` is lower get no mail delivered."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Retrying what could not be delivered."""

    minimum_wait_seconds: int = 300
    """Wait before the second attempt; it doubles from attempt to attempt."""
    maximum_wait_seconds: int = 4000
    """Longest wait between attempts."""
    lifetime_seconds: int = 432_000
    """A message that is older than this is given up and returned (RFC 5321 §4.5.4.1 asks for 4-5 days)."""
    connections_per_destination: int = 20
    """Most simultaneous connections to one destination."""
    connections: int = 100
    """Most simultaneous connections in all."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log, on standard error."""

    level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    format: str = "auto"
    """``text``, ``json``, or ``auto``: text on a terminal, JSON otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    hostname: str = ""
    """This server's name in greetings, trace headers and reports. Default: the machine's own full name."""
    data_dir: str = ""
    """Everything Posthouse writes lies below it. Default: /var/lib/posthouse as root, ./var otherwise."""
    user: str = ""
    """The Unix user to serve as when started as root."""
    workers: int = 0
    """Mail worker processes. 0: one for each core."""
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    database: Database = field(default_factory=Database)
    smtp: Smtp = field(default_factory=Smtp)
    imap: Imap = field(default_factory=Imap)
    pop3: Pop3 = field(default_factory=Pop3)
    auth: Auth = field(default_factory=Auth)
    mail: Mail = field(default_factory=Mail)
    queue: QueuePolicy = field(default_factory=QueuePolicy)
    log: Log = field(default_factory=Log)

    def path(self, relative: str) -> str:
        """A path from the configuration, made absolute below ``data_dir``."""
        import posixpath

        return posixpath.join(self.data_dir, relative)
