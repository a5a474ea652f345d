"""``posthouse serve``: checks that everything is there, then hands over to the supervisor.

Nothing is half-started: the configuration, the user, the data directory, the addresses to listen on, the
database and the journal are all in order before the first process serves, or a message says what to mend.
"""

import fcntl
import gc
import ipaddress
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from posthouse import __version__
from posthouse.base.errors import PosthouseError
from posthouse.config.endpoints import Endpoint, parse_endpoint, parse_map_endpoint
from posthouse.config.settings import Listen, Settings
from posthouse.runtime import log as logging
from posthouse.runtime import metrics, privileges
from posthouse.runtime.listener import Listener, ListenError, bind
from posthouse.runtime.log import log
from posthouse.runtime.measures import BUILD, STARTED
from posthouse.runtime.privileges import Identity
from posthouse.runtime.supervisor import Role, Supervisor

EXIT_REFUSED = 1
EXIT_CONFIGURATION = 2
OTHER_ROLES = 4
"""Processes besides the mail workers, at most: ``app.roles``."""


class CannotServeError(Exception):
    """What stands in the way, and what to do about it. ``code``: the exit code."""

    def __init__(self, text: str, code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(text)
        self.code = code


def serve(
    settings: Settings,
    load: Callable[[], Settings],
    *,
    before: Callable[[Settings], None] = lambda _: None,
    on_ready: Callable[[Settings, list[Listener]], None] | None = None,
) -> int:
    """Run until stopped; the exit code. ``load`` reads the configuration again for SIGHUP.

    ``before`` is called once the directory is there and before anything serves, as the user that serves.
    """
    settings = _with_workers(settings)
    logging.configure(settings.log.level, settings.log.format)
    try:
        _check_tables(settings)
        identity = _identity(settings)
        lock = _take_data_dir(settings, identity)
        _prepare(settings, identity, before)
        listeners = _bind_all(settings)
    except (CannotServeError, ListenError) as error:
        print(f"posthouse: {error}", file=sys.stderr)
        return error.code if isinstance(error, CannotServeError) else EXIT_REFUSED

    _share_metrics(settings)
    # Imported here, after the quick checks and before the fork: the workers share its memory.
    from posthouse.app.roles import roles

    def ready() -> None:
        log.info("serving", **_listening(listeners), workers=settings.workers, data_dir=settings.data_dir)
        if on_ready is not None:
            on_ready(settings, listeners)

    def reload() -> list[Role]:
        fresh = _with_workers(load())
        if fresh.listen != settings.listen or fresh.workers != settings.workers:
            raise CannotServeError("listen and workers are read at start only: restart to change them")
        _check_tables(fresh)
        fresh_roles = roles(fresh, listeners, identity, os.getpid())
        _check_directory(fresh, identity)
        return fresh_roles

    privileges.raise_file_limit()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # hardly anything here is cyclic: look for it less often
    code = Supervisor(
        roles(settings, listeners, identity, os.getpid()), reload, ready, on_stop=lambda: _close(listeners)
    ).run()
    for listener in listeners:
        if listener.endpoint.path:
            Path(listener.endpoint.path).unlink(missing_ok=True)
    log.info("stopped")
    os.close(lock)
    return code


def _share_metrics(settings: Settings) -> None:
    """Memory for what is counted: for this process and four generations of the others, as a reload leaves old ones
    behind that still drain. What no process uses takes no memory."""
    metrics.share(metrics.Memory(1 + 4 * (settings.workers + OTHER_ROLES)))
    STARTED.set(time.time())
    BUILD.set(1, __version__, platform.python_version())


def _check_tables(settings: Settings) -> None:
    """The access tables that the restriction lists name, and the files of ``[rewrite]``."""
    from posthouse.services.restrictions.lists import broken_tables  # after the configuration is known to be good
    from posthouse.services.rewriting.rewriting import broken_files

    if problems := broken_tables(settings) + broken_files(settings):
        raise CannotServeError("; ".join(problems))


def _identity(settings: Settings) -> Identity | None:
    """Whom to serve as; None: whoever we are."""
    if os.geteuid() != 0:
        if settings.user and settings.user != _own_name():
            raise CannotServeError(
                f"user = {settings.user!r}, but only root can become another user: start as root, or as that user"
            )
        return None
    if settings.user:
        try:
            identity = privileges.look_up(settings.user)
        except KeyError:
            raise CannotServeError(
                f"user = {settings.user!r}: this system has no such user. Make one, for example with "
                f"'adduser --system --group {settings.user}', or set 'user' to one that exists"
            ) from None
        if identity.uid == 0:
            raise CannotServeError("user = 'root' would serve strangers with all rights: set an ordinary user")
        return identity
    open_to_all = [str(endpoint) for _, endpoint in _endpoints(settings) if not _is_loopback(endpoint)]
    if open_to_all:
        raise CannotServeError(
            f"started as root without 'user', but listening beyond this machine on {', '.join(open_to_all)}. "
            "Set 'user' in the configuration to the Unix user to serve as, for example user = \"posthouse\""
        )
    log.warning("serving-as-root", reason="'user' is not set; accepted because every listener is on loopback")
    return None


def _take_data_dir(settings: Settings, identity: Identity | None) -> int:
    """Make the data directory and lock it. The lock is inherited by every process and so held by the last one."""
    data = settings.data_dir
    try:
        os.makedirs(data, mode=0o700, exist_ok=True)
        if identity is not None and os.stat(data).st_uid == 0:
            os.chown(data, identity.uid, identity.gid)
        lock = _open_lock(os.path.join(data, "lock"), identity)
    except OSError as error:
        raise CannotServeError(
            f"data_dir {data}: {error.strerror} ({error.filename}). It must be a directory that "
            f"{identity.name if identity else _own_name()} may read and write",
            EXIT_REFUSED,
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotServeError(
            f"data_dir {data} is in use by another Posthouse: stop that one first, or set another data_dir",
            EXIT_REFUSED,
        ) from None
    return lock


def _open_lock(path: str, identity: Identity | None) -> int:
    """The lock file, made if need be. Raises ``OSError``.

    Its directory is the serving user's, who could have put a link to anything there: root follows none, and gives
    away only what it has made.
    """
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    if identity is not None:
        os.fchown(lock, identity.uid, identity.gid)
    return lock


def _prepare(settings: Settings, identity: Identity | None, before: Callable[[Settings], None]) -> None:
    """Directories, certificate, database and what the journal has to bring back; in a process of its own, so that
    what it takes doesn't stay in the supervisor."""

    def work() -> None:
        try:
            # Before the rights go: the user that serves may not be allowed to read where all this is installed.
            import cryptography.x509  # noqa: F401 (for a certificate)

            from posthouse.services.preparation import import_early, prepare

            import_early(settings)
            if identity is not None:
                privileges.drop(identity)
            prepare(settings)
            before(settings)
        except OSError as error:
            raise CannotServeError(f"cannot prepare {settings.data_dir}: {error}") from error
        except PosthouseError as error:
            raise CannotServeError(f"cannot prepare {settings.data_dir}: {error.reason}") from error

    if not _done_apart(work, lambda reason: print(f"posthouse: {reason}", file=sys.stderr)):
        raise CannotServeError("not started; the reason is above", EXIT_REFUSED)


def _check_directory(settings: Settings, identity: Identity | None) -> None:
    """That the directory answers: new processes know nothing yet, which the old ones may still tell."""

    def work() -> None:
        from posthouse.services.preparation import check_directory

        if identity is not None:
            privileges.drop(identity)
        try:
            check_directory(settings)
        except PosthouseError as error:
            raise CannotServeError(error.reason) from error

    if not _done_apart(work, lambda reason: log.error("directory-not-ready", reason=reason)):
        raise CannotServeError("the directory can't be used, see above: the old processes go on with what they know")


def _done_apart(work: Callable[[], None], tell: Callable[[str], None]) -> bool:
    """Do it in a process of its own; whether it succeeded. ``tell`` is given the reason why not."""
    pid = os.fork()
    if pid == 0:
        code = EXIT_REFUSED
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            work()
            code = 0
        except CannotServeError as error:
            tell(str(error))
        except BaseException as error:  # noqa: BLE001 - the process ends here whatever it is
            log.error("preparation-failed", reason=repr(error), exc_info=error)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return status == 0


def _bind_all(settings: Settings) -> list[Listener]:
    listeners: list[Listener] = []
    try:
        for service, endpoint in _endpoints(settings):
            listeners.append(bind(service, endpoint, settings.workers))
    except ListenError:
        _close(listeners)
        raise
    return listeners


def _close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()


def _endpoints(settings: Settings) -> list[tuple[str, Endpoint]]:
    found = [
        (service.name, parse_endpoint(address))
        for service in fields(Listen)
        if service.name != "tcp_table"
        for address in getattr(settings.listen, service.name)
    ]
    # Each map is a service of its own: ``tcp_table.virtual``.
    tables = [parse_map_endpoint(text) for text in settings.listen.tcp_table]
    return found + [(f"tcp_table.{name}", endpoint) for name, endpoint in tables]


def _is_loopback(endpoint: Endpoint) -> bool:
    if endpoint.path or endpoint.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        return False


def _listening(listeners: list[Listener]) -> dict[str, str]:
    services: dict[str, list[str]] = {}
    for listener in listeners:
        services.setdefault(listener.service, []).append(str(listener.endpoint))
    return {service: ",".join(endpoints) for service, endpoints in services.items()}


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _with_workers(settings: Settings) -> Settings:
    """As many mail workers as there are cores, where the configuration doesn't say."""
    return replace(settings, workers=settings.workers or len(os.sched_getaffinity(0)))
