"""The page that Prometheus reads: ``/metrics``, and ``/metrics.json`` for our own command.

Whichever worker answers, it tells what all processes have counted.
"""

import time

from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.http.server import PHRASES, Event, HttpServerEngine, Rejected
from posthouse.runtime import exposition, metrics
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id

REQUEST_SECONDS = 10.0
"""How long a request may take from its first byte to its last."""
IDLE_SECONDS = 300.0
"""How long a connection is kept without one."""
_TEXT = "text/plain; charset=utf-8"


async def serve(connection: Connection) -> None:
    """Serve one client until it has had enough."""
    engine, deadline = HttpServerEngine(), 0.0
    while True:
        event = engine.next_event()
        if event is not NEED_DATA:
            assert not isinstance(event, Pause), "a request was left unanswered"
            _answer(engine, event)
            deadline = 0.0
            continue
        connection.write(engine.data_to_send())
        await connection.drain()
        if engine.closed:
            return
        now = connection.loop.time()
        deadline = (deadline or now + REQUEST_SECONDS) if engine.is_in_request else 0.0
        connection.timeout_seconds = max(deadline - now, 0.0) if deadline else IDLE_SECONDS
        data = await connection.read()
        if data is not None:
            engine.receive(data)
        elif connection.draining:
            return


def _answer(engine: HttpServerEngine, event: Event) -> None:
    date = (time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()),)  # RFC 9110 §6.6.1
    if isinstance(event, Rejected):
        engine.respond(event.status, f"{PHRASES[event.status]}\n".encode(), _TEXT, date)
        return
    try:
        if event.path == "/metrics":
            content, content_type = exposition.render(metrics.regions()).encode(), exposition.CONTENT_TYPE
        elif event.path == "/metrics.json":
            content, content_type = exposition.render_json(metrics.regions()), "application/json"
        else:
            engine.respond(404, b"There is /metrics, and nothing else.\n", _TEXT, date)
            return
    except Exception:  # noqa: BLE001 - a bug of ours ends the request, not the connection
        trace = new_trace_id()
        log.exception("metrics-failed", trace=trace)
        engine.respond(500, f"Internal error, reported as {trace}\n".encode(), _TEXT, date)
    else:
        engine.respond(200, content, content_type, date)
