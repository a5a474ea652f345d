"""A server that is measured: started on free ports of 127.0.0.1 below one directory, stopped by process id."""

import os
import signal
import socket
import subprocess
import time
from typing import Protocol

START_SECONDS = 60.0
STOP_SECONDS = 45.0
HOST = "127.0.0.1"


class NotRunningError(Exception):
    """A server that did not start or did not stop; the text ends with its last words."""


class Server(Protocol):
    """What the measurements need of a server. Ports are 0 where it doesn't speak the protocol."""

    name: str
    mail_root: str
    smtp_port: int
    imap_port: int
    pop3_port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def pid(self) -> int: ...
    def version(self) -> str: ...


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all found before any is given back, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def await_greeting(port: int, log: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until a server says something on its port."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        try:
            with socket.create_connection((HOST, port), timeout=5) as sock:
                if sock.recv(512):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise NotRunningError(f"nothing answers on port {port}; the log ends:\n{last_words(log)}")


def end(pid: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """SIGTERM, and SIGKILL for those who don't listen. ``process``: the same one, where it is a child of ours."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if _is_gone(pid, process):
                return
            time.sleep(0.05)
    raise NotRunningError(f"process {pid} does not end")


def run(*command: str) -> str:
    """A program of the set-up; its output. Raises ``NotRunningError`` with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRunningError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def last_words(log: str, size: int = 2000) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - size))
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"({error})"


def _is_gone(pid: int, process: "subprocess.Popen[bytes] | None") -> bool:
    if process is not None:
        return process.poll() is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
