"""Every setting, its meaning and its one default.

The attribute docstrings are the reference: ``posthouse config reference`` prints them. Paths are relative to
``data_dir`` unless absolute. All objects are frozen; a reload makes new ones.
"""

from dataclasses import dataclass, field

from posthouse.config.destinations import Destination
from posthouse.config.filtering import Filtering, FilterSettings
from posthouse.config.mail import Mail
from posthouse.config.milters import Milter
from posthouse.config.reception import DnsListSites, Greylist, Rates, Verify
from posthouse.config.relays import RelayHost
from posthouse.config.rewriting import Rewrite
from posthouse.config.submission import Submission
from posthouse.config.transports import Local, Transport, built_in


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
    metrics: tuple[str, ...] = ()
    """What is counted and measured, for Prometheus: ``/metrics`` over HTTP, for whoever connects (docs/metrics.md).
    Default: 127.0.0.1:9025 as root, 127.0.0.1:2925 otherwise."""
    dovecot_auth: tuple[str, ...] = ()
    """Dovecot's auth protocol, for Postfix (``smtpd_sasl_type = dovecot``) and Exim; this host only."""
    saslauthd: tuple[str, ...] = ()
    """saslauthd's protocol, for Cyrus SASL and the PAM helper: ``unix:/path/mux``. None by default."""
    socketmap: tuple[str, ...] = ()
    """Postfix's look-ups by socketmap_table(5). This host only; none by default."""
    tcp_table: tuple[str, ...] = ()
    """Postfix's look-ups by tcp_table(5), whose requests name no map: an address for each, as in
    ``virtual=127.0.0.1:2526``. This host only; none by default."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate."""

    certificate: str = "tls/certificate.pem"
    """PEM file, the server's certificate first, then the chain. Made, self-signed, if neither file exists."""
    key: str = "tls/key.pem"
    """PEM file with the private key."""
    client_ca: str = ""
    """PEM file of those who sign users' own certificates, for the mechanism ``EXTERNAL``. Empty: none asked for.
    Clients need not have one, but one that these did not sign, or that has expired, ends the connection. A user's
    account is the e-mail address in the certificate's subjectAltName."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table of keys and destinations, as in Postfix's mysql_table(5). What is empty is the preset's."""

    table: str = ""
    """Name of the table or view."""
    key: str = ""
    """Column of the key, or an SQL expression."""
    value: str = ""
    """Column of the destination, or an SQL expression."""
    where: str = ""
    """Further condition in SQL, as in ``active = 1``."""


@dataclass(frozen=True, slots=True)
class UsersLookup:
    """The table of accounts: each setting names a column, or is an SQL expression. What is empty is the preset's."""

    table: str = ""
    """Name of the table or view."""
    key: str = ""
    """The e-mail address."""
    password: str = ""
    """The password in clear, or a hash."""
    name: str = ""
    """The user's name."""
    uid: str = ""
    """Owner of the files."""
    gid: str = ""
    """Group of the files."""
    homedir: str = ""
    """Home directory."""
    maildir: str = ""
    """Where the mail is, below the mail root."""
    quota: str = ""
    """Bytes, or as in ``10485760S,1000C``; NULL or empty: no limit."""
    enabled: str = ""
    """``y``, ``yes``, ``1``, ``t`` or ``true`` where delivery and login are allowed."""
    where: str = ""
    """Further condition in SQL."""


@dataclass(frozen=True, slots=True)
class Database:
    """The directory of domains, accounts and addresses."""

    url: str = "sqlite:posthouse.db"
    """``sqlite:PATH``, ``mysql://USER@HOST/DATABASE`` (MariaDB too) or ``postgresql://USER@HOST/DATABASE``."""
    hosts: tuple[str, ...] = ()
    """Servers in order of preference, in place of the URL's: ``host``, ``host:port`` or ``unix:/path/of/socket``."""
    password_file: str = ""
    """File with the database user's password, where the URL doesn't have it."""
    ca: str = ""
    """PEM file: connections are TLS, and the servers' certificates have to be signed by these. Empty: no TLS."""
    connections: int = 8
    """Most simultaneous connections of each process to a server."""
    schema: str = "posthouse"
    """The preset for the tables below: ``posthouse`` (the five tables) or ``postfixadmin``."""
    virtual: Lookup = field(default_factory=Lookup)
    relocated: Lookup = field(default_factory=Lookup)
    transport: Lookup = field(default_factory=Lookup)
    alias: Lookup = field(default_factory=Lookup)
    users: UsersLookup = field(default_factory=UsersLookup)


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
    relayhost_user: str = ""
    """Who logs in at the relayhost: through TLS with a certificate for its name, unless it is on this machine."""
    relayhost_password_file: str = ""
    """File with that one's password."""
    relayhost_ca: str = ""
    """PEM file of those who sign the relayhost's certificate. Empty: the system's."""
    source_addresses: tuple[str, ...] = ()
    """Addresses of this host that outgoing connections come from, in turn. Empty: as the system chooses."""
    dane: bool = True
    """Whether hosts that publish TLSA records are held to them. Needs a resolver that validates, see ``[dns]``."""
    mta_sts: bool = True
    """Whether the MTA-STS policies of other domains are fetched and kept to."""
    bogus_networks: tuple[str, ...] = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8")
    """Networks where nobody else's mail host is: MX records that lead there are passed over. They don't bind
    ``relayhost`` nor a next hop in brackets."""
    timeout_seconds: int = 300
    """How long a client may take for a command (RFC 5321 §4.5.3.2.7); for a message one second more for every 1,000
    octets of it."""
    recipient_delimiter: str = "+"
    """Separates ``user`` from ``ext`` in ``user+ext@domain``; empty turns that off."""
    catchall: str = "after-accounts"
    """``after-accounts``: a real account wins over its domain's catch-all. ``before-accounts``: Postfix's order."""
    client_restrictions: tuple[str, ...] = ()
    """Who may hand in mail on port 25, by address and name: restrictions with Postfix's words, in order
    (docs/restrictions.md). All lists but the last are gone through at each RCPT TO."""
    helo_restrictions: tuple[str, ...] = ()
    """The same by what the client calls itself; on port 25, too."""
    sender_restrictions: tuple[str, ...] = ()
    """The same by the sender, as the next two also for those who have logged in."""
    recipient_restrictions: tuple[str, ...] = (
        "permit_mynetworks",
        "permit_sasl_authenticated",
        "reject_unauth_destination",
    )
    """The same by the recipient. Whatever it says, nobody relays without permission."""
    data_restrictions: tuple[str, ...] = ()
    """What is asked once the recipients are known."""
    max_errors: int = 20
    """Refused and malformed commands after which a session is ended."""
    soft_error_limit: int = 10
    """After so many of them each further one is answered late."""
    error_wait_seconds: int = 1
    """How late."""
    greet_wait_seconds: int = 0
    """How long strangers wait for the greeting on port 25 the first time in a day; who speaks before it is turned
    away. 0: not at all."""
    proxy_networks: tuple[str, ...] = ()
    """Proxies before port 25 and 587: whoever connects from there has to begin with a PROXY protocol header."""
    xclient_networks: tuple[str, ...] = ()
    """Proxies that may say by XCLIENT who their client is, and who that has logged in as."""
    policy_timeout_seconds: int = 100
    """How long a policy service is waited for."""
    policy_default_action: str = "451 4.3.5 Server configuration problem"
    """What counts where a policy service doesn't answer, as in ``DUNNO``."""


@dataclass(frozen=True, slots=True)
class Dns:
    """Looking up names."""

    servers: tuple[str, ...] = ()
    """Whom to ask: ``host`` or ``host:port``. Empty: the system's, from /etc/resolv.conf."""
    trusted: tuple[str, ...] = ()
    """Addresses of resolvers that validate (DNSSEC) and are believed, as those on loopback always are: the way to
    them has to be safe too. Without any, there is no DANE."""


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
    login_delay_seconds: int = 0
    """An account's logins have to be so far apart; 0: they needn't (LOGIN-DELAY of RFC 2449 §6.5)."""


@dataclass(frozen=True, slots=True)
class Auth:
    """Logging in."""

    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    """SASL mechanisms to offer, and ``APOP``. ``CRAM-MD5``, ``CRAM-SHA1``, ``SCRAM-SHA-1`` and ``APOP`` work only for
    accounts whose password is stored as plain text (or for that mechanism); programs that are offered them use them
    without asking, so add them where all are. ``SCRAM-SHA-256-PLUS`` and ``SCRAM-SHA-1-PLUS`` bind to the server's
    certificate; ``OAUTHBEARER`` and ``XOAUTH2`` need ``[oidc]``, ``EXTERNAL`` needs ``tls.client_ca``."""
    chain: tuple[str, ...] = ("sql",)
    """Who is asked whether a password is right, in this order, until one says yes: ``sql``, ``pam``, ``ldap``."""
    trusted_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose hosts may log in with a password on a connection without TLS."""
    plain_crypt: bool = False
    """Whether a ``clear`` without a ``{SCHEME}`` prefix that looks like a crypt(3) string is one."""
    upgrade_passwords: bool = False
    """Whether a login with an old hash replaces it by our own secrets. Other programs that read ``clear`` can't check
    that password any more then."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Against those who guess passwords."""

    block_after: int = 20
    """Failed logins from one address in ten minutes before it is shut out for a while; for its network and for an
    account it is five times as many. 0: nobody ever is."""
    block_seconds: int = 900
    """How long the first time; it doubles each time up to a day."""
    exempt_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose hosts are neither shut out nor slowed, such as a webmail's, which logs in everybody."""


@dataclass(frozen=True, slots=True)
class Pam:
    """This host's Unix users, where ``auth.chain`` has ``pam``."""

    service: str = "posthouse"
    """The file in /etc/pam.d that says how."""


@dataclass(frozen=True, slots=True)
class Ldap:
    """A directory server, where ``auth.chain`` has ``ldap``."""

    urls: tuple[str, ...] = ()
    """Servers in order of preference: ``ldaps://host``, ``ldap://host`` or ``ldapi:///path``."""
    starttls: bool = True
    """Whether ``ldap://`` connections change to TLS before anything is said. Those to this host need not."""
    ca: str = ""
    """PEM file of those who sign the servers' certificates. Empty: the system's."""
    user_dn: str = ""
    """The user's entry where it follows from the login: ``uid={local},ou=people,dc=example,dc=org`` (``{login}``
    is the whole address; ``{local}`` and ``{domain}`` are its parts). Empty: it is searched for."""
    domains: tuple[str, ...] = ()
    """Domains whose users these are; others' logins are not asked about. Empty: all of them, and then ``user_dn`` or
    ``filter`` has to have ``{login}`` or ``{domain}``: one name at two domains is two users."""
    base: str = ""
    """Where to search for the user's entry."""
    filter: str = "(mail={login})"
    """What to search for; exactly one entry has to match."""
    bind_dn: str = ""
    """Who searches. Empty: nobody in particular."""
    bind_password_file: str = ""
    """File with that one's password."""


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID Connect issuer whose access tokens OAUTHBEARER and XOAUTH2 take."""

    issuer: str = ""
    """Its URL, whose ``/.well-known/openid-configuration`` says the rest."""
    audience: str = ""
    """What a token's ``aud`` has to name, also in the issuer's answer about one that is no JWT. Needed for JWTs."""
    account_claim: str = "email"
    """The claim that has the account's address."""
    client_id: str = ""
    """Who asks the issuer about tokens that are no JWTs (RFC 7662). Empty: those are refused."""
    client_secret_file: str = ""
    """File with the secret of ``client_id``."""


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
    """Most simultaneous connections to one destination. It begins with 5 and has more while it takes what it gets."""
    connections: int = 100
    """Most simultaneous connections in all."""
    messages_per_minute: int = 0
    """Most messages a minute to one destination; 0: no limit."""
    delay_warning_seconds: int = 14_400
    """The sender hears once of a message that is older than this and not delivered yet; 0: never."""
    double_bounces_to: str = "postmaster"
    """Who gets reports and other mail with the null sender that can't be delivered: a name at ``hostname``, or a full
    address. Empty: they are dropped."""


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
    submission: Submission = field(default_factory=Submission)
    dns: Dns = field(default_factory=Dns)
    rates: Rates = field(default_factory=Rates)
    dnslists: DnsListSites = field(default_factory=DnsListSites)
    greylist: Greylist = field(default_factory=Greylist)
    verify: Verify = field(default_factory=Verify)
    rewrite: Rewrite = field(default_factory=Rewrite)
    filtering: Filtering = field(default_factory=Filtering)
    filters: dict[str, FilterSettings] = field(default_factory=dict[str, FilterSettings])
    milters: dict[str, Milter] = field(default_factory=dict[str, Milter])
    imap: Imap = field(default_factory=Imap)
    pop3: Pop3 = field(default_factory=Pop3)
    auth: Auth = field(default_factory=Auth)
    guard: Guard = field(default_factory=Guard)
    pam: Pam = field(default_factory=Pam)
    ldap: Ldap = field(default_factory=Ldap)
    oidc: Oidc = field(default_factory=Oidc)
    mail: Mail = field(default_factory=Mail)
    queue: QueuePolicy = field(default_factory=QueuePolicy)
    local: Local = field(default_factory=Local)
    transports: dict[str, Transport] = field(default_factory=built_in)
    relays: dict[str, RelayHost] = field(default_factory=dict[str, RelayHost])
    destinations: dict[str, Destination] = field(default_factory=dict[str, Destination])
    log: Log = field(default_factory=Log)

    def path(self, relative: str) -> str:
        """A path from the configuration, made absolute below ``data_dir``."""
        import posixpath

        return posixpath.join(self.data_dir, relative)
