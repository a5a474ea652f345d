"""The composition root: configuration in, wired processes out. No logic lives here.

Every process is one function that builds what it needs and serves until SIGTERM. The supervisor forks them after
this module is imported, so that they share its memory.
"""

import asyncio
import contextlib
import functools
import importlib
import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from posthouse.base.clock import SystemClock
from posthouse.config.endpoints import POSTFIX_MAPS
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.servers import import_driver
from posthouse.journal.journal import Journal
from posthouse.mailqueue.runner import Runner
from posthouse.mailqueue.spool import Spool
from posthouse.outbound.lmtp import LmtpCourier
from posthouse.outbound.outgoing import make_smtp_courier
from posthouse.protocols.smtp.server import ServerOptions
from posthouse.protocols.socketmap.server import SocketmapEngine
from posthouse.protocols.tcptable.server import TcpTableEngine
from posthouse.runtime import privileges
from posthouse.runtime.connection import Connection
from posthouse.runtime.counters import Counters
from posthouse.runtime.listener import Listener
from posthouse.runtime.nameservers import make_resolver, validating_servers
from posthouse.runtime.privileges import Identity
from posthouse.runtime.server import Server, Session
from posthouse.runtime.supervisor import Role
from posthouse.runtime.tls import Contexts, server_context
from posthouse.runtime.watch import Watch
from posthouse.servers.door import Door
from posthouse.servers.dovecotauth import DovecotAuthService
from posthouse.servers.imap.session import ImapService, ImapSession
from posthouse.servers.lookups import LookupService
from posthouse.servers.pop3 import Pop3Service
from posthouse.servers.saslauthd import SaslauthdService
from posthouse.servers.smtp import SmtpService
from posthouse.services.bounces import Bounces
from posthouse.services.delivering import Delivering, PipeCourier
from posthouse.services.deliveryprocess import DeliveryProcess
from posthouse.services.guard import GUARD_FILE, Guard
from posthouse.services.handover import Handover
from posthouse.services.login import Login
from posthouse.services.onward import LocalCourier, Routes
from posthouse.services.outlets import Outlets
from posthouse.services.placement import Placement
from posthouse.services.postfixmaps import PostfixMaps
from posthouse.services.rates import Rates
from posthouse.services.reception import Reception
from posthouse.services.restrictions.lists import Restrictions, open_restrictions
from posthouse.services.secret import host_secret
from posthouse.services.sources import PasswordSource, TokenSource
from posthouse.store.store import Store

try:
    from uvloop import new_event_loop
except ImportError:  # asyncio's own serves as well, slower
    new_event_loop = asyncio.new_event_loop

DRAIN_SECONDS = 30.0
DELIVERY_SOCKET = "delivery.sock"
IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})


@dataclass(slots=True)
class Parts:
    """What every process that handles mail is made of."""

    settings: Settings
    directory: Directory
    journal: Journal
    watch: Watch
    store: Store
    spool: Spool
    placement: Placement


def roles(settings: Settings, listeners: list[Listener], identity: Identity | None, supervisor: int) -> list[Role]:
    """The processes to run. Raises ``OSError`` when the certificate or its key can't be used.

    Both are read here, as root if that is who we are: the user that serves need not be able to.
    """
    tls = _contexts(settings)
    rate_counters = Counters(settings.workers)

    def worker(index: int) -> Role:
        name = f"worker-{index}"

        def run(ready: Callable[[], None]) -> None:
            for listener in listeners:
                listener.close(keep=index)
            _enter(identity, supervisor)
            _run_loop(_serve_mail(settings, name, index, listeners, tls, rate_counters.of_worker(index), ready))

        return Role(name, run)

    def run_queue(ready: Callable[[], None]) -> None:
        for listener in listeners:
            listener.close()
        _enter(identity, supervisor)
        _run_loop(_serve_queue(settings, ready))

    def keeping_root(serve: "_Served") -> Callable[[Callable[[], None]], None]:
        return functools.partial(_keep_root, serve, settings, listeners, identity, supervisor)

    _import_wanted(settings)
    others = [Role("queue", run_queue), Role("delivery", keeping_root(_serve_delivery))]
    if "pam" in settings.auth.chain:
        others.append(Role("pam", keeping_root(_serve_pam)))
    return [*(worker(index) for index in range(settings.workers)), *others]


def _contexts(settings: Settings) -> Contexts:
    certificate, key = settings.path(settings.tls.certificate), settings.path(settings.tls.key)
    everybody = server_context(certificate, key)
    if not settings.tls.client_ca:
        return Contexts(everybody, everybody)
    return Contexts(everybody, server_context(certificate, key, settings.path(settings.tls.client_ca)))


def _enter(identity: Identity | None, supervisor: int) -> None:
    if identity is not None:
        privileges.drop(identity)
        privileges.die_with_parent(supervisor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's to handle
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _run_loop(main: Awaitable[None]) -> None:
    async def run() -> None:
        await main

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())


def start_journal(directory: Path, process: str, durability: str) -> Journal:
    """A journal for this process. Raises ``OSError``.

    After a reload the process that it replaces may have the first one still, and then this takes another. What one
    that crashed left in any of them is made durable now: nobody else comes by before the next start.
    """
    mine: Journal | None = None
    for number in itertools.count():
        path = directory / (f"{process}.{number}" if number else process)
        if mine is not None and not path.exists():
            return mine
        journal = Journal(str(path), durability=durability)
        try:
            journal.start()
        except BlockingIOError:
            continue
        if mine is None:
            mine = journal
        else:
            journal.close()
    raise AssertionError("count() has no end")


@contextlib.asynccontextmanager
async def parts(settings: Settings, process: str) -> AsyncIterator[Parts]:
    """Everything one process shares, opened, and closed again in the right order."""
    data = Path(settings.data_dir)
    directory = Directory(settings)
    await directory.open(may_be_away=True)
    journal = start_journal(data / "journal", process, settings.mail.durability)
    watch = Watch()
    store = Store(settings.path(settings.mail.root), journal, watch, hostname=settings.hostname)
    spool = Spool(str(data / "queue"))
    placement = Placement(directory, store, spool, journal, SystemClock(), Outlets(settings))
    try:
        yield Parts(settings, directory, journal, watch, store, spool, placement)
    finally:
        store.close()
        watch.close()
        journal.close()
        await directory.close()


async def _serve_mail(
    settings: Settings,
    process: str,
    index: int,
    listeners: list[Listener],
    tls: Contexts,
    rate_counters: Counters,
    ready: Callable[[], None],
) -> None:
    stop = _stop_signal()
    async with (
        parts(settings, process) as its,
        _logins(its) as login,
        open_restrictions(settings, its.directory) as lists,
    ):
        sessions = _sessions(its, tls, login, lists, Rates(settings.rates, rate_counters))
        server = Server()
        for listener in listeners:
            implicit = tls.users if listener.service in IMPLICIT_TLS else None
            await server.listen(listener.sockets[index], sessions[listener.service], implicit)
        ready()
        await stop.wait()
        await server.drain(DRAIN_SECONDS)


async def _serve_queue(settings: Settings, ready: Callable[[], None]) -> None:
    stop = _stop_signal()
    loop = asyncio.get_running_loop()
    async with parts(settings, "queue") as its:
        clock = SystemClock()
        resolver = make_resolver(settings.dns)
        delivering = Delivering(settings, Handover(settings.path(DELIVERY_SOCKET)))
        couriers = {
            "smtp": make_smtp_courier(settings, resolver, clock),
            "lmtp": LmtpCourier(settings.hostname, resolver),
            "local": LocalCourier(its.directory, its.placement, settings.path("tmp"), delivering),
            "pipe": PipeCourier(its.directory, delivering),
        }
        routes = Routes(its.directory, settings.smtp.relayhost, its.placement.outlets)
        bounces = Bounces(settings.hostname, settings.queue, clock, its.placement.submit)
        runner = Runner(
            its.spool, its.journal, its.watch, settings.queue, clock, routes.route, couriers, bounces.report
        )
        running = loop.create_task(runner.run())
        stopped = loop.create_task(stop.wait())
        ready()
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await runner.drain(DRAIN_SECONDS)
        await running
        for courier in (couriers["smtp"], couriers["lmtp"]):
            await courier.close()
        await resolver.close()


_Served = Callable[[Settings, Identity | None, Callable[[], None]], None]


def _keep_root(
    serve: _Served,
    settings: Settings,
    listeners: list[Listener],
    identity: Identity | None,
    supervisor: int,
    ready: Callable[[], None],
) -> None:
    """Run what goes on as root, if that is who we are."""
    for listener in listeners:
        listener.close()
    _enter(None, supervisor)

    def made() -> None:
        privileges.die_with_parent(supervisor)  # making its socket as the user that serves has reset it
        ready()

    serve(settings, identity, made)


def _serve_delivery(settings: Settings, identity: Identity | None, ready: Callable[[], None]) -> None:
    """Stays root, if that is who we are, to become other users."""
    DeliveryProcess(settings, settings.path(DELIVERY_SOCKET), identity).run(ready)


def _serve_pam(settings: Settings, identity: Identity | None, ready: Callable[[], None]) -> None:
    """Stays root, if that is who we are: pam_unix reads /etc/shadow."""
    from posthouse.runtime.pam import PamProcess

    path = settings.path("pam.sock")
    PamProcess(path, settings.pam.service, settings.mail.minimum_uid, identity).run(ready)


def _import_wanted(settings: Settings) -> None:
    """What the directory, ``_sources`` and ``_tokens`` will want, for all processes at once, and before the rights
    go: the user that serves may not be allowed to read where all this is installed."""
    import_driver(settings)
    wanted = {
        "posthouse.services.pam": "pam" in settings.auth.chain,
        "posthouse.services.ldap": "ldap" in settings.auth.chain,
        "posthouse.services.oidc": bool(settings.oidc.issuer),
        "posthouse.services.jwt": bool(settings.oidc.issuer),
        "posthouse.runtime.validating": bool(validating_servers(settings.dns)),
    }
    for module in [module for module, is_wanted in wanted.items() if is_wanted]:
        importlib.import_module(module)


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


def _sessions(
    its: Parts, tls: Contexts, login: Login, restrictions: Restrictions, rates: Rates
) -> dict[str, Session]:
    """What serves a connection, by the name of the listener it came in on."""
    settings, temporary_dir = its.settings, its.settings.path("tmp")
    hostname = settings.hostname
    reception = Reception(
        hostname, settings.smtp.mynetworks, its.placement, SystemClock(), temporary_dir, restrictions
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
        return SmtpService(options, reception, login, context, timeout, submission, door).serve

    imap_service = ImapService(settings, login, its.store, its.directory, tls.users)

    async def imap(connection: Connection) -> None:
        await ImapSession(imap_service, connection).run()

    pop3 = Pop3Service(hostname, login, its.directory, its.store, tls.users, settings.pop3.timeout_seconds).serve
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
        "socketmap": LookupService(maps, SocketmapEngine).serve,
        **tables,
    }


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop
