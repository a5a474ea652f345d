"""fdatasync without a thread: the kernel does it and tells the event loop (io_submit(2), IOCB_CMD_FDSYNC).

A thread that syncs has to have the interpreter again before it can say so, and waits for that as long as the loop
computes. ``KernelSync.open`` gives None where the kernel, a container or the machine's kind does not offer this.
"""

import asyncio
import ctypes
import errno
import os
import platform
import select
from collections.abc import Callable

FDSYNC = 3
RESFD = 1
NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""io_setup, io_destroy, io_getevents, io_submit; both kinds of machine are little-endian."""

_libc = ctypes.CDLL(None, use_errno=True)
_quick = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter: these calls never wait


class _Iocb(ctypes.Structure):
    """``struct iocb`` of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("resfd", ctypes.c_uint32),
    )


class KernelSync:
    """One sync at a time, from the loop's thread; ``done`` hears None or what failed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> None:
        """Raises OSError where there is no such thing."""
        numbers = NUMBERS.get(platform.machine())
        if numbers is None:
            raise OSError(f"unknown numbers of system calls on {platform.machine()}")
        setup, self._destroy, self._getevents, self._submit = map(ctypes.c_long, numbers)
        self._loop = loop
        self._done = done
        self._context = ctypes.c_ulong(0)
        self._call(setup, ctypes.c_uint(1), ctypes.byref(self._context))
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._iocb = _Iocb(opcode=FDSYNC, flags=RESFD, resfd=self._event_fd)
        self._list = (ctypes.POINTER(_Iocb) * 1)(ctypes.pointer(self._iocb))
        self._events = (ctypes.c_int64 * 4)()  # data, obj, res, res2
        loop.add_reader(self._event_fd, self._ready)

    @classmethod
    def open(cls, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> "KernelSync | None":
        """One that works: a sync of it was tried. None where that fails."""
        try:
            made = cls(loop, done)
        except (OSError, AttributeError, NotImplementedError):
            return None
        handle = os.memfd_create("sync", os.MFD_CLOEXEC)
        try:
            made.start(handle)
            error = made.wait()
        except OSError as failure:
            error = failure
        finally:
            os.close(handle)
        if error is not None:
            made.close()
            return None
        return made

    def start(self, fd: int) -> None:
        """Begin; ``done`` is called from the loop once it is over. Raises OSError."""
        self._iocb.fd = fd
        self._call(self._submit, self._context, ctypes.c_long(1), self._list)

    def wait(self) -> OSError | None:
        """The end of the one that was started, without the loop; ``done`` isn't called."""
        poll = select.poll()
        poll.register(self._event_fd, select.POLLIN)
        while (number := self._take_event()) is None:
            poll.poll()
        return _failure(number)

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._event_fd)
        _libc.syscall(self._destroy, self._context)
        os.close(self._event_fd)

    def _ready(self) -> None:
        if (number := self._take_event()) is not None:
            self._done(_failure(number))

    def _take_event(self) -> int | None:
        """The error's number of the sync that is over, 0 for none; None while it is not over."""
        try:
            os.eventfd_read(self._event_fd)
        except BlockingIOError:
            return None
        arguments = (self._context, ctypes.c_long(0), ctypes.c_long(1), self._events, None)
        found = _quick.syscall(self._getevents, *arguments)
        # Without an event nobody knows what came of it.
        return -self._events[2] if found == 1 else errno.EIO

    def _call(self, number: ctypes.c_long, *arguments: object) -> None:
        if _quick.syscall(number, *arguments) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def _failure(number: int) -> OSError | None:
    return OSError(number, os.strerror(number)) if number else None
