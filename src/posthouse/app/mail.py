"""A mail worker: logins, restrictions and what serves each kind of listener."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable

from posthouse.app.filtering import filtering
from posthouse.app.parts import Parts, parts
from posthouse.app.process import DRAIN_SECONDS, stop_signal
from posthouse.base.clock import SystemClock
from posthouse.config.endpoints import POSTFIX_MAPS
from posthouse.config.settings import Settings
from posthouse.protocols.smtp.server import ServerOptions
from posthouse.protocols.socketmap.server import SocketmapEngine
from posthouse.protocols.tcptable.server import TcpTableEngine
from posthouse.runtime.connection import Connection
from posthouse.runtime.counters import Counters
from posthouse.runtime.listener import Listener
from posthouse.runtime.server import Server, Session
from posthouse.runtime.tls import Contexts
from posthouse.servers import metrics
from posthouse.servers.door import Door
from posthouse.servers.dovecotauth import DovecotAuthService
from posthouse.servers.imap.session import ImapService, ImapSession
from posthouse.servers.lookups import LookupService
from posthouse.servers.pop3 import Pop3Service
from posthouse.servers.saslauthd import SaslauthdService
from posthouse.servers.smtp import SmtpService
from posthouse.services.filtering.filtering import Filtering
from posthouse.services.guard import GUARD_FILE, Guard
from posthouse.services.login import Login
from posthouse.services.milters.session import Milters
from posthouse.services.postfixmaps import PostfixMaps
from posthouse.services.rates import Rates
from posthouse.services.reception import Reception
from posthouse.services.restrictions.lists import Restrictions, open_restrictions
from posthouse.services.rewriting.rewriting import Rewriting
from posthouse.services.secret import host_secret
from posthouse.services.sending.allowances import Allowances
from posthouse.services.sending.notices import Notices
from posthouse.services.sending.usagefile import SENDING_FILE
from posthouse.services.sources import PasswordSource, TokenSource

IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})


async def serve_mail(
    settings: Settings,
    process: str,
    index: int,
    listeners: list[Listener],
    tls: Contexts,
    rate_counters: Counters,
    ready: Callable[[], None],
) -> None:
    """One worker, ``index``, until SIGTERM. ``ready`` is called once it serves."""
    stop = stop_signal()
    async with (
        parts(settings, process) as its,
        _logins(its) as login,
        open_restrictions(settings, its.directory) as lists,
        _allowances(its) as allowances,
        filtering(its) as filters,
    ):
        sessions = _sessions(its, tls, login, lists, allowances, filters, Rates(settings.rates, rate_counters))
        server = Server()
        for listener in listeners:
            implicit = tls.users if listener.service in IMPLICIT_TLS else None
            await server.listen(listener.sockets[index], sessions[listener.service], implicit, name=listener.service)
        ready()
        await stop.wait()
        await server.drain(DRAIN_SECONDS)


def _sources(settings: Settings) -> list[PasswordSource]:
    """Who is asked after the directory, in order. Only what is used is imported."""
    sources: list[PasswordSource] = []
    for name in settings.auth.chain:
        if name == "pam":
            from posthouse.services.pam import PamSource

            sources.append(PamSource(settings.path("pam.sock"), settings.hostname))
        elif name == "ldap":
            from posthouse.services.ldap import LdapSource

            sources.append(LdapSource(settings))
    return sources


def _tokens(settings: Settings) -> TokenSource | None:
    if not settings.oidc.issuer:
        return None
    from posthouse.services.oidc import OidcTokens

    return OidcTokens(settings)


@contextlib.asynccontextmanager
async def _logins(its: Parts) -> AsyncIterator[Login]:
    """The logins of a process; all that they are made of is closed with them."""
    settings = its.settings
    secret = host_secret(settings.path("secret"))
    login = Login(
        its.directory,
        settings.auth,
        hostname=settings.hostname,
        secret=secret,
        sources=_sources(settings),
        tokens=_tokens(settings),
        guard=Guard(settings.path(GUARD_FILE), settings.guard, secret=secret),
    )
    try:
        yield login
    finally:
        await login.close()


@contextlib.asynccontextmanager
async def _allowances(its: Parts) -> AsyncIterator[Allowances]:
    """What users may send, in one process."""
    settings, clock = its.settings, SystemClock()
    notices = Notices(its.placement, settings.hostname, settings.submission.tell, clock)
    path = settings.path(SENDING_FILE)
    allowances = Allowances(its.directory, settings.submission, notices, path, clock)
    try:
        yield allowances
    finally:
        await allowances.close()


def _sessions(
    its: Parts,
    tls: Contexts,
    login: Login,
    restrictions: Restrictions,
    allowances: Allowances,
    filters: Filtering | None,
    rates: Rates,
) -> dict[str, Session]:
    """What serves a connection, by the name of the listener it came in on."""
    settings, temporary_dir = its.settings, its.settings.path("tmp")
    hostname = settings.hostname
    rewrites = restrictions.decides or not settings.rewrite.does_nothing
    reception = Reception(
        hostname,
        settings.smtp.mynetworks,
        its.placement,
        SystemClock(),
        temporary_dir,
        restrictions,
        allowances,
        hide_client=settings.submission.hide_client,
        rewriting=Rewriting(settings, its.placement) if rewrites else None,
        filtering=filters,
    )

    def smtp(*, lmtp: bool = False, submission: bool = False) -> Session:
        options = ServerOptions(
            hostname,
            lmtp=lmtp,
            max_size_bytes=settings.smtp.max_size_bytes,
            max_recipients=settings.smtp.max_recipients,
            starttls=not lmtp,
            require_auth=submission,
            max_errors=settings.smtp.max_errors,
        )
        timeout = settings.smtp.timeout_seconds
        context = tls.users if submission else tls.servers
        if lmtp:
            return SmtpService(options, reception, None, context, timeout).serve
        door = Door.of(settings, rates, greets_late=not submission)
        milters = Milters(settings, "submission" if submission else "smtp", its.placement, restrictions)
        used = milters if milters.settings else None
        return SmtpService(options, reception, login, context, timeout, submission, door, used).serve

    imap_service = ImapService(settings, login, its.store, its.directory, tls.users)

    async def imap(connection: Connection) -> None:
        await ImapSession(imap_service, connection).run()

    pop3 = Pop3Service(
        hostname,
        login,
        its.directory,
        its.store,
        tls.users,
        settings.pop3.timeout_seconds,
        settings.pop3.login_delay_seconds,
    ).serve
    submission = smtp(submission=True)
    maps = PostfixMaps(its.directory, settings)
    tables = {
        f"tcp_table.{name}": LookupService(maps, functools.partial(TcpTableEngine, name)).serve
        for name in POSTFIX_MAPS
    }
    return {
        "smtp": smtp(),
        "submission": submission,
        "submissions": submission,
        "lmtp": smtp(lmtp=True),
        "imap": imap,
        "imaps": imap,
        "pop3": pop3,
        "pop3s": pop3,
        "dovecot_auth": DovecotAuthService(login).serve,
        "saslauthd": SaslauthdService(login).serve,
        "metrics": metrics.serve,
        "socketmap": LookupService(maps, SocketmapEngine).serve,
        **tables,
    }
