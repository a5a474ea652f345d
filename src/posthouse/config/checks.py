"""What a setting's value has to be, beyond its type: one line for each setting that has such a rule.

A check is given the value (each item, for a list) and returns what would be right, or an empty string.
"""

import ipaddress
import re
from collections.abc import Callable

from posthouse.config import destinations, filtering, milters, relays, rewriting, transports
from posthouse.config.endpoints import POSTFIX_MAPS, parse_endpoint, parse_map_endpoint
from posthouse.config.restrictions import parse_dns_list, parse_restriction

Check = Callable[[str | int], str]

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOSTNAME = re.compile(rf"(?=.{{1,255}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_RELAYHOST = re.compile(r"(?:\[[^\]\s]+\]|[^\[\]:\s]+)(?::(\d{1,5}))?\Z")


def is_hostname(text: str) -> bool:
    """Whether this is a host's name as RFC 1123 §2.1 has it, and not an address."""
    return bool(_HOSTNAME.match(text)) and not text.rpartition(".")[2].isdigit()


def _hostname(value: str | int) -> str:
    return "" if is_hostname(str(value)) else "a full host name, as in 'mail.example.com'"


def _endpoint(value: str | int) -> str:
    try:
        parse_endpoint(str(value))
    except ValueError:
        return "'host:port', '[IPv6]:port' or 'unix:/path'"
    return ""


def _network(value: str | int) -> str:
    try:
        ipaddress.ip_network(str(value))
    except ValueError as error:
        return f"a network as in '192.0.2.0/24' or '2001:db8::/32' ({error})"
    return ""


def _address(value: str | int) -> str:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return "an IP address"
    return ""


def _relayhost(value: str | int) -> str:
    match = _RELAYHOST.match(str(value))
    if value == "" or (match and int(match[1] or 25) in range(1, 65536)):
        return ""
    return "'host', 'host:port' or '[host]:port'"


def _url(value: str | int) -> str:
    if re.match(r"sqlite:[^/?]|sqlite:/[^/]", str(value)):
        return ""
    if re.fullmatch(r"(mysql|postgresql)://[^/?#\s]*/[^/?#\s]+", str(value)):
        return ""
    return "'sqlite:PATH', 'mysql://USER@HOST/DATABASE' or 'postgresql://USER@HOST/DATABASE'"


def _database_host(value: str | int) -> str:
    match = re.fullmatch(r"unix:/.+|(?:\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+)(?::(\d{1,5}))?", str(value))
    return "" if match and int(match[1] or 1) in range(1, 65536) else "'host', 'host:port' or 'unix:/path/of/socket'"


def _local_endpoint(value: str | int) -> str:
    """These say who is who, or believe whoever asks: not for the network."""
    if wrong := _endpoint(value):
        return wrong
    endpoint = parse_endpoint(str(value))
    if endpoint.path or endpoint.host == "localhost":
        return ""
    try:
        local = ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        local = False
    return "" if local else "an address of this host only, as in 'unix:/path' or '127.0.0.1:PORT'"


def _local_map_endpoint(value: str | int) -> str:
    try:
        parse_map_endpoint(str(value))
    except ValueError:
        return f"'MAP=127.0.0.1:PORT', where MAP is one of {', '.join(POSTFIX_MAPS)}"
    return _local_endpoint(str(value).partition("=")[2])


def _ldap_url(value: str | int) -> str:
    match = re.fullmatch(r"ldapi:///.+|ldaps?://(?:\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+)(?::(\d{1,5}))?/?", str(value))
    return (
        "" if match and int(match[1] or 1) in range(1, 65536) else "'ldaps://host', 'ldap://host' or 'ldapi:///path'"
    )


def _issuer(value: str | int) -> str:
    if re.fullmatch(
        r"|https://[^/?#\s]+[^?#\s]*|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/[^?#\s]*)?", str(value)
    ):
        return ""
    return "an https:// URL without query"


def _pam_service(value: str | int) -> str:
    return "" if re.fullmatch(r"[a-zA-Z0-9_.-]+", str(value)) else "the name of a file in /etc/pam.d"


def _restriction(value: str | int) -> str:
    if str(value).split() == ["warn_if_reject"]:
        return ""
    try:
        parse_restriction(str(value))
    except ValueError as error:
        return f"a restriction as in docs/restrictions.md ({error})"
    return ""


_DEFAULT_ACTION = re.compile(
    r"DUNNO|OK|DEFER|REJECT|4\d\d(?: 4\.\d{1,3}\.\d{1,3})?(?: [^45].*)?|5\d\d(?: 5\.\d{1,3}\.\d{1,3})?(?: [^45].*)?"
)


def _default_action(value: str | int) -> str:
    return "" if _DEFAULT_ACTION.fullmatch(str(value)) else "'DUNNO', 'OK' or a reply as in '451 4.3.5 Try later'"


def _weighted_list(value: str | int) -> str:
    try:
        parse_dns_list(str(value))
    except ValueError as error:
        return f"a DNS list as in 'zen.example=127.0.0.[2..11]*3' ({error})"
    return ""


def _nameserver(value: str | int) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+){3})(?::(\d{1,5}))?|\[(.+)\]:(\d{1,5})|([0-9a-fA-F:.]+)", str(value))
    try:
        ipaddress.ip_address((match and (match[1] or match[3] or match[5])) or "")
    except ValueError:
        return "an IP address, as in '127.0.0.1' or '127.0.0.1:53'"
    return ""


def _mailbox(value: str | int) -> str:
    return "" if re.fullmatch(r"|[^\s@<>]+(@[^\s@<>]+)?", str(value)) else "a name, an address, or empty"


def _delimiter(value: str | int) -> str:
    return "" if re.fullmatch(r"[+=_.#-]?", str(value)) else "one of + - = _ . # or empty"


def _path(value: str | int) -> str:
    return "" if value and "\0" not in str(value) else "a path"


def _choice(*choices: str) -> Check:
    return lambda value: "" if value in choices else "one of " + ", ".join(repr(choice) for choice in choices)


def _whole(low: int, high: int) -> Check:
    return lambda value: "" if low <= int(value) <= high else f"a whole number from {low} to {high}"


MECHANISMS = (
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "OAUTHBEARER",
    "XOAUTH2",
    "CRAM-SHA1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
"""Strongest first; ``protocols.sasl`` has one for each name."""
_WEEK = 7 * 86_400
CHECKS: dict[str, Check] = {
    "hostname": _hostname,
    "data_dir": _path,
    "workers": _whole(0, 1024),
    **{
        f"listen.{name}": _endpoint
        for name in ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "lmtp", "metrics")
    },
    **{f"listen.{name}": _local_endpoint for name in ("dovecot_auth", "saslauthd", "socketmap")},
    "listen.tcp_table": _local_map_endpoint,
    "tls.certificate": _path,
    "tls.key": _path,
    "database.url": _url,
    "database.hosts": _database_host,
    "database.connections": _whole(1, 1000),
    "database.schema": _choice("posthouse", "postfixadmin"),
    "smtp.mynetworks": _network,
    "smtp.max_size_bytes": _whole(1024, 2**40),
    "smtp.max_recipients": _whole(1, 1_000_000),
    "smtp.relayhost": _relayhost,
    "smtp.source_addresses": _address,
    "smtp.bogus_networks": _network,
    "dns.trusted": _address,
    "smtp.timeout_seconds": _whole(1, 86_400),
    "smtp.recipient_delimiter": _delimiter,
    "smtp.catchall": _choice("after-accounts", "before-accounts"),
    **{f"smtp.{name}_restrictions": _restriction for name in ("client", "helo", "sender", "recipient", "data")},
    "submission.over_limit": _choice("refuse", "hold"),
    "submission.tell": _mailbox,
    **{
        f"submission.{whose}.{what}_per_{span}": _whole(0, 2**60)
        for whose in ("account", "domain")
        for what in ("messages", "recipients", "bytes", "new_recipients")
        for span in ("hour", "day")
    },
    "smtp.max_errors": _whole(1, 1000),
    "smtp.soft_error_limit": _whole(0, 1000),
    "smtp.error_wait_seconds": _whole(0, 60),
    "smtp.greet_wait_seconds": _whole(0, 60),
    "smtp.proxy_networks": _network,
    "smtp.xclient_networks": _network,
    **{f"rates.{what}_per_minute": _whole(0, 1_000_000_000) for what in ("connections", "messages", "recipients")},
    "rates.sessions_per_client": _whole(0, 1_000_000),
    "rates.sessions": _whole(0, 1_000_000),
    "rates.exempt_networks": _network,
    "smtp.policy_timeout_seconds": _whole(1, 3600),
    "smtp.policy_default_action": _default_action,
    "dns.servers": _nameserver,
    "dnslists.sites": _weighted_list,
    "dnslists.threshold": _whole(1, 1_000_000),
    "dnslists.timeout_seconds": _whole(1, 60),
    "verify.wait_seconds": _whole(1, 60),
    **{
        f"verify.{kind}_{what}_seconds": _whole(1, 3650 * 86_400)
        for kind in ("positive", "negative")
        for what in ("expire", "refresh")
    },
    "greylist.wait_seconds": _whole(0, 86_400),
    "greylist.retry_seconds": _whole(1, _WEEK),
    "greylist.known_after": _whole(0, 1_000_000),
    "greylist.keep_days": _whole(1, 3650),
    "imap.timeout_seconds": _whole(1, 86_400),
    "imap.max_append_bytes": _whole(1024, 2**40),
    "pop3.timeout_seconds": _whole(1, 86_400),
    "pop3.login_delay_seconds": _whole(0, 86_400),
    "auth.mechanisms": _choice(*MECHANISMS, "APOP"),
    "auth.chain": _choice("sql", "pam", "ldap"),
    "guard.block_after": _whole(0, 1_000_000),
    "guard.block_seconds": _whole(1, 86_400),
    "guard.exempt_networks": _network,
    "pam.service": _pam_service,
    "ldap.urls": _ldap_url,
    "ldap.domains": _hostname,
    "oidc.issuer": _issuer,
    "auth.trusted_networks": _network,
    "mail.root": _path,
    "mail.durability": _choice("journal", "fsync"),
    "mail.minimum_uid": _whole(0, 2**31),
    "mail.undelete_days": _whole(0, 36_500),
    "mail.trash_days": _whole(0, 36_500),
    "mail.junk_days": _whole(0, 36_500),
    "local.run_as": transports.unix_user,
    "local.timeout_seconds": _whole(1, 86_400),
    "transports.NAME.argv": transports.argument,
    "transports.NAME.user": transports.unix_user,
    "transports.NAME.flags": transports.flags,
    "transports.NAME.max_size_bytes": _whole(0, 2**40),
    "transports.NAME.timeout_seconds": _whole(1, 86_400),
    "transports.NAME.concurrency": _whole(1, 1000),
    "rewrite.always_bcc": rewriting.address,
    "filtering.agree": _choice("any", "all"),
    "filtering.quarantine_days": _whole(1, 36_500),
    "filters.NAME.kind": _choice(*filtering.KINDS),
    "filters.NAME.servers": filtering.endpoint,
    "filters.NAME.clean_codes": filtering.exit_code,
    "filters.NAME.virus_codes": filtering.exit_code,
    "filters.NAME.pattern": filtering.pattern,
    "filters.NAME.timeout_seconds": _whole(1, 3600),
    "filters.NAME.max_size_bytes": _whole(0, 2**40),
    "filters.NAME.on_failure": _choice("defer", "pass", "hold"),
    "milters.NAME.address": milters.address,
    "milters.NAME.listeners": _choice(*milters.LISTENERS),
    "milters.NAME.on_failure": _choice(*milters.FAILURES),
    "milters.NAME.timeout_seconds": _whole(1, 600),
    "milters.NAME.message_seconds": _whole(1, 600),
    "relays.NAME.host": _relayhost,
    "relays.NAME.senders": relays.sender,
    "destinations.NAME.tls": _choice(*destinations.LEVELS),
    "destinations.NAME.connections": _whole(0, 10_000),
    "destinations.NAME.messages_per_minute": _whole(0, 1_000_000),
    "destinations.NAME.source_addresses": _address,
    "queue.minimum_wait_seconds": _whole(1, _WEEK),
    "queue.maximum_wait_seconds": _whole(1, _WEEK),
    "queue.lifetime_seconds": _whole(0, 10 * _WEEK),
    "queue.connections_per_destination": _whole(1, 10_000),
    "queue.connections": _whole(1, 10_000),
    "queue.delay_warning_seconds": _whole(0, 10 * _WEEK),
    "queue.double_bounces_to": _mailbox,
    "queue.messages_per_minute": _whole(0, 1_000_000),
    "log.level": _choice("debug", "info", "warning", "error"),
    "log.format": _choice("auto", "text", "json"),
}
