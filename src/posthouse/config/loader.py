"""From a TOML file to ``Settings``, or to everything that is wrong with it at once.

Invariants:
  1. A problem names the file, the line, the key and what would be right.
  2. Whatever a file doesn't say has its default; no file at all is a valid configuration.
"""

import dataclasses
import difflib
import os
import re
import socket
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast, get_type_hints

from posthouse.config import filtering, milters, relays, transports
from posthouse.config.checks import CHECKS, is_hostname
from posthouse.config.destinations import NAME as DESTINATION_NAME
from posthouse.config.destinations import Destination
from posthouse.config.filtering import FilterSettings
from posthouse.config.milters import Milter
from posthouse.config.relays import RelayHost
from posthouse.config.settings import Settings
from posthouse.config.transports import NO_PIPES, TRANSPORT_NAME, Transport, built_in

PORTS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
    "lmtp": 24,
    "metrics": 9025,
}
UNPRIVILEGED = {25: 2525, 587: 2587, 465: 2465, 143: 2143, 993: 2993, 110: 2110, 995: 2995, 24: 2424, 9025: 2925}
_OF_THIS_HOST = (PORTS["lmtp"], PORTS["metrics"])

_KINDS: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    tuple[str, ...]: "a list of strings",
}
_HEADER = re.compile(r"""\s*\[\s*((?:"[^"]*"|'[^']*'|[\w.\s-])+?)\s*\]""")
_KEY = re.compile(r"\s*([\w.\s\"'-]+?)\s*=")
_NAMED_KEY = re.compile(r"^(transports|relays|destinations|filters|milters)\..+\.")
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)")


@dataclasses.dataclass(frozen=True, slots=True)
class _Named:
    """Tables whose names the operator chooses: ``taken`` can't be one; ``problem`` says what is wrong with one."""

    kind: type
    built_in: Callable[[], dict[str, Any]]
    problem: Callable[[Any], str]
    taken: Collection[str] = ()
    name: re.Pattern[str] = TRANSPORT_NAME
    is_named: str = "lower case letters, digits, - and _, and none of our own"


_NAMED: dict[Any, _Named] = {
    dict[str, Transport]: _Named(Transport, built_in, transports.problem, NO_PIPES),
    dict[str, FilterSettings]: _Named(FilterSettings, dict[str, FilterSettings], filtering.problem),
    dict[str, Milter]: _Named(Milter, dict[str, Milter], milters.problem),
    dict[str, RelayHost]: _Named(RelayHost, dict[str, RelayHost], relays.problem),
    dict[str, Destination]: _Named(
        Destination,
        dict[str, Destination],
        lambda _: "",
        (),
        DESTINATION_NAME,
        "a domain or a next hop, in lower case",
    ),
}


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` has a line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(config: str = "", data: str = "", environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a file, or without one the defaults. Raises ``ConfigError``.

    ``config`` and ``data`` are the options of the command line; without them ``POSTHOUSE_CONFIG`` and
    ``POSTHOUSE_DATA`` count. A ``data_dir`` in the file is relative to the file, all others to where we stand.
    """
    path = config or environ.get("POSTHOUSE_CONFIG", "")
    data = data or environ.get("POSTHOUSE_DATA", "")
    settings = _read(path) if path else _with_defaults(Settings(), frozenset())
    if data:
        settings = dataclasses.replace(settings, data_dir=os.path.abspath(data))
    return settings


def _read(path: str) -> Settings:
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(path, text, str(error))]) from None
    reader = _Reader(path, _lines(text))
    settings = Settings(**reader.table(Settings, document, ""))
    reader.check_together(settings)
    if reader.problems:
        raise ConfigError(reader.problems)
    if settings.data_dir:
        base = os.path.dirname(os.path.abspath(path))
        settings = dataclasses.replace(settings, data_dir=os.path.normpath(os.path.join(base, settings.data_dir)))
    listen = document.get("listen", {})
    return _with_defaults(settings, frozenset(cast("dict[str, object]", listen)))


def _syntax_problem(path: str, text: str, message: str) -> str:
    at = _AT_LINE.search(message)
    line = at[1] if at else str(text.count("\n") + 1)
    return f"{path}:{line}: not TOML: {_AT_LINE.sub('', message).removesuffix(' (at end of document)')}"


def _lines(text: str) -> dict[str, int]:
    """The line on which each key or table is first named; near enough for whatever TOML allows."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            lines.setdefault(table, number)
            table += "."
        elif key := _KEY.match(line):
            name = ""
            for part in _dotted(key[1]).split("."):
                name = f"{name}.{part}" if name else part
                lines.setdefault(table + name, number)
    return lines


def _dotted(name: str) -> str:
    return re.sub(r"[\s\"']", "", name)


class _Reader:
    """Turns tables into dataclasses' arguments and collects what is wrong."""

    def __init__(self, path: str, lines: dict[str, int]) -> None:
        self.path = path
        self.lines = lines
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        line = self.lines.get(key) or self.lines.get(key.rpartition(".")[0]) or 1
        self.problems.append(f"{self.path}:{line}: {key}: {text}")

    def table(self, kind: type, table: dict[str, Any], prefix: str) -> dict[str, Any]:
        """The arguments for ``kind`` that ``table`` gives and that are right."""
        hints = get_type_hints(kind)
        arguments: dict[str, Any] = {}
        for name, value in table.items():
            key = prefix + name
            if name not in hints:
                self.problem(key, f"unknown{_nearest(key)}")
            elif hints[name] in _NAMED:
                arguments[name] = self._named(key, value, _NAMED[hints[name]])
            elif not dataclasses.is_dataclass(hints[name]):
                accepted = self._value(key, value, hints[name])
                if accepted is not None:
                    arguments[name] = accepted
            elif isinstance(value, dict):
                inner = cast("dict[str, Any]", value)
                arguments[name] = hints[name](**self.table(hints[name], inner, f"{key}."))
            else:
                self.problem(key, f"expected a table, [{key}], not {value!r}")
        return arguments

    def _named(self, section: str, value: Any, named: _Named) -> dict[str, Any]:
        """Those of the file, over those that are there without it."""
        found = named.built_in()
        if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):  # pyright: ignore[reportUnknownVariableType]
            self.problem(section, f"expected tables, as in [{section}.{next(iter(found), 'name')}]")
            return found
        for name, table in cast("dict[str, dict[str, Any]]", value).items():
            key = f"{section}.{name}"
            if not named.name.fullmatch(name) or name in named.taken:
                self.problem(key, f"no name for a {section.removesuffix('s')}: {named.is_named}")
                continue
            known = len(self.problems)
            made = dataclasses.replace(found.get(name, named.kind()), **self.table(named.kind, table, f"{key}."))
            if len(self.problems) == known and (wrong := named.problem(made)):
                self.problem(key, wrong)
            found[name] = made
        return found

    def _value(self, key: str, value: Any, kind: Any) -> str | int | tuple[str, ...] | None:
        """The value as the setting has it, or None where it is wrong."""
        is_list = kind == tuple[str, ...]
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        item_kind = str if is_list else kind
        if isinstance(value, list) != is_list or any(type(item) is not item_kind for item in items):
            example = f", as in [{value!r}]" if is_list and isinstance(value, str) else ""
            self.problem(key, f"expected {_KINDS[kind]}{example}, not {_shown(cast('object', value))}")
            return None
        rule = _NAMED_KEY.sub(r"\1.NAME.", key)
        wrong = [(item, right) for item in items if rule in CHECKS and (right := CHECKS[rule](item))]
        for item, right in wrong:
            self.problem(key, f"expected {right}, not {_shown(item)}")
        if wrong:
            return None
        return tuple(items) if is_list else items[0]

    def check_together(self, settings: Settings) -> None:
        """What is only wrong in company."""
        if settings.queue.maximum_wait_seconds < settings.queue.minimum_wait_seconds:
            self.problem("queue.maximum_wait_seconds", "must not be less than queue.minimum_wait_seconds")
        for find in (_login_problems, _ldap_problems, _list_problems, _relay_problems):
            for key, problem in find(settings):
                self.problem(key, problem)


def _login_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Mechanisms that need more than their name."""
    mechanisms, oidc = settings.auth.mechanisms, settings.oidc
    if "EXTERNAL" in mechanisms and not settings.tls.client_ca:
        yield "auth.mechanisms", "'EXTERNAL' needs tls.client_ca, which says whose certificates count"
    if not {"OAUTHBEARER", "XOAUTH2"} & {*mechanisms}:
        return
    if not oidc.issuer:
        yield "auth.mechanisms", "'OAUTHBEARER' and 'XOAUTH2' need oidc.issuer"
    if not oidc.audience and not oidc.client_id:
        yield "auth.mechanisms", "'OAUTHBEARER' and 'XOAUTH2' need oidc.audience (or oidc.client_id)"
    if oidc.client_id and not oidc.client_secret_file:
        yield "oidc.client_id", "needs oidc.client_secret_file"


def _ldap_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    ldap = settings.ldap
    if "ldap" not in settings.auth.chain:
        return
    if not ldap.urls:
        yield "auth.chain", "'ldap' needs ldap.urls"
    if not ldap.user_dn and not ldap.base:
        yield "auth.chain", "'ldap' needs ldap.base, where to search, or ldap.user_dn, which entry"
    key = "user_dn" if ldap.user_dn else "filter"
    if not ldap.domains and not re.search(r"\{(login|domain)\}", ldap.user_dn or ldap.filter):
        yield f"ldap.{key}", "without {login} or {domain} it needs ldap.domains: one name at two domains is two users"
    if ldap.bind_dn and not ldap.bind_password_file:
        yield "ldap.bind_dn", "needs ldap.bind_password_file"


def _list_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Weighted DNS lists count where a restriction list says so."""
    smtp = settings.smtp
    lists = (smtp.client_restrictions, smtp.helo_restrictions, smtp.sender_restrictions, smtp.recipient_restrictions)
    is_wanted = any("reject_dnslists" in text.split() for texts in (*lists, smtp.data_restrictions) for text in texts)
    if is_wanted and not settings.dnslists.sites:
        yield "smtp", "'reject_dnslists' needs dnslists.sites"
    if settings.dnslists.sites and not is_wanted:
        yield "dnslists.sites", "count only where a list of [smtp] has 'reject_dnslists', as in client_restrictions"


def _relay_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """A sender has one relay, and a relay one login."""
    of_sender: dict[str, str] = {}
    of_route = {settings.smtp.relayhost: "smtp.relayhost"} if settings.smtp.relayhost else {}
    for name, relay in settings.relays.items():
        if other := of_route.get(relay.route):
            yield f"relays.{name}.host", f"{other} is there already" + (" for that user" if relay.senders else "")
        of_route[relay.route] = f"relays.{name}"
        for sender in relay.senders:
            if (other := of_sender.setdefault(sender.lower(), name)) != name:
                yield f"relays.{name}.senders", f"{sender!r} is a sender of relays.{other}, too"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def names(kind: type = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting."""
    for name, hint in get_type_hints(kind).items():
        if hint in _NAMED:
            yield from names(_NAMED[hint].kind, f"{prefix}{name}.NAME.")
        elif dataclasses.is_dataclass(hint):
            yield from names(cast("type", hint), f"{prefix}{name}.")
        else:
            yield prefix + name


def _nearest(key: str) -> str:
    """The known name nearest to ``key``: a slip of the pen, or right but in the wrong table."""
    known = list(names())
    tables = {name.partition(".")[0] for name in known if "." in name}
    last = key.rpartition(".")[2]
    found = (
        difflib.get_close_matches(key, [*known, *tables], 1, 0.75)
        or [name for name in known if name.rpartition(".")[2] == last]
        or [
            name
            for near in difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], 1)
            for name in known
            if name.rpartition(".")[2] == near
        ]
        or difflib.get_close_matches(key, [*known, *tables], 1, 0.0)
    )
    return f"; did you mean {found[0]}?"


def _with_defaults(settings: Settings, given: frozenset[str]) -> Settings:
    """Settings whose defaults depend on the machine and on who we are; ``given``: the listeners that stand."""
    root = os.geteuid() == 0
    listen = dataclasses.replace(
        settings.listen,
        **{name: _default_listener(port, root) for name, port in PORTS.items() if name not in given},
    )
    return dataclasses.replace(
        settings,
        hostname=settings.hostname or _own_hostname(),
        data_dir=settings.data_dir or ("/var/lib/posthouse" if root else os.path.abspath("var")),
        listen=listen,
    )


def _default_listener(port: int, root: bool) -> tuple[str, ...]:
    if not root:
        return (f"127.0.0.1:{UNPRIVILEGED[port]}",)
    if port in _OF_THIS_HOST:
        return (f"127.0.0.1:{port}",)
    everywhere = (f"0.0.0.0:{port}",)
    return (*everywhere, f"[::]:{port}") if os.path.exists("/proc/net/if_inet6") else everywhere


def _own_hostname() -> str:
    # A name that is already full needs no look-up, which can take seconds where DNS is broken.
    name = socket.gethostname()
    if "." not in name:
        name = socket.getfqdn(name)
    return name.lower() if is_hostname(name) else "localhost"
