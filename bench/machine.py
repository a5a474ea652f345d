"""The machine: facts that belong to the figures, and limits that a thousand sessions need higher."""

import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from bench import servers

INOTIFY_INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
INSTANCES_NEEDED = 4096
BUSY_LOAD = 0.3


def facts(directory: str) -> dict[str, str]:
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({_cpu_model()})",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file system": _file_system(directory),
        "commit": _commit(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def is_busy() -> bool:
    """Whether others use this machine so much that no figure means anything."""
    return os.getloadavg()[0] > BUSY_LOAD * len(os.sched_getaffinity(0))


@contextmanager
def raised_limits() -> Iterator[None]:
    """Open files for us; inotify instances for a server that has a process for each session (put back after)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = _read(INOTIFY_INSTANCES)
    is_raised = (
        before.isdigit() and int(before) < INSTANCES_NEEDED and _write(INOTIFY_INSTANCES, str(INSTANCES_NEEDED))
    )
    try:
        yield
    finally:
        if is_raised:
            _write(INOTIFY_INSTANCES, before)


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: str) -> str:
    """Type and options of what ``directory`` lies on."""
    best = ("", "?", "")
    for line in _read("/proc/self/mounts").splitlines():
        _, point, kind, options = line.split()[:4]
        inside = os.path.realpath(directory) + "/"
        if inside.startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
            best = (point, kind, options)
    return f"{best[1]} ({best[2]})"


def _commit() -> str:
    try:
        return servers.run("git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty")
    except (servers.NotRunningError, OSError):
        return "?"


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> bool:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        return False
    return True
