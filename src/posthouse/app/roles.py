"""Which processes there are. The supervisor forks them after this is imported, so that they share its memory.

Every process is one function that builds what it needs and serves until SIGTERM.
"""

import asyncio
import functools
import importlib
import signal
from collections.abc import Awaitable, Callable

from posthouse.app.mail import serve_mail
from posthouse.app.process import DELIVERY_SOCKET, SEARCH_SOCKET, new_event_loop
from posthouse.app.queue import serve_queue
from posthouse.config.settings import Settings
from posthouse.directory.servers import import_driver
from posthouse.runtime import metrics, privileges
from posthouse.runtime.counters import Counters
from posthouse.runtime.listener import Listener
from posthouse.runtime.log import log
from posthouse.runtime.nameservers import validating_servers
from posthouse.runtime.privileges import Identity
from posthouse.runtime.supervisor import Role
from posthouse.runtime.tls import Contexts, server_context
from posthouse.services.deliveryprocess import DeliveryProcess
from posthouse.services.indexprocess import IndexProcess


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
            _run_loop(serve_mail(settings, name, index, listeners, tls, rate_counters.of_worker(index), ready))

        return Role(name, run)

    def run_queue(ready: Callable[[], None]) -> None:
        for listener in listeners:
            listener.close()
        _enter(identity, supervisor)
        _run_loop(serve_queue(settings, ready))

    def run_search(ready: Callable[[], None]) -> None:
        for listener in listeners:
            listener.close()
        _enter(identity, supervisor)
        IndexProcess(settings, settings.path(SEARCH_SOCKET)).run(ready)

    def keeping_root(serve: "_Served") -> Callable[[Callable[[], None]], None]:
        return functools.partial(_keep_root, serve, settings, listeners, identity, supervisor)

    _import_wanted(settings)
    others = [Role("queue", run_queue), Role("search", run_search), Role("delivery", keeping_root(_serve_delivery))]
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
    if not metrics.claim():
        log.warning("metrics-uncounted", reason="too many generations of processes drain at once")
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
