"""What the processes have in common."""

import asyncio
import signal

try:
    from uvloop import new_event_loop
except ImportError:  # asyncio's own serves as well, slower
    new_event_loop = asyncio.new_event_loop

DRAIN_SECONDS = 30.0
DELIVERY_SOCKET = "delivery.sock"
SEARCH_SOCKET = "search.sock"


def stop_signal() -> asyncio.Event:
    """Set at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop
