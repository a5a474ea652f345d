"""The queue runner's process."""

import asyncio
from collections.abc import Callable

from posthouse.app.parts import parts
from posthouse.app.process import DELIVERY_SOCKET, DRAIN_SECONDS, stop_signal
from posthouse.base.clock import SteadyClock, SystemClock
from posthouse.config.settings import Settings
from posthouse.mailqueue.runner import Runner
from posthouse.outbound.lmtp import LmtpCourier
from posthouse.outbound.outgoing import make_smtp_courier
from posthouse.runtime.log import log
from posthouse.runtime.nameservers import make_resolver
from posthouse.services.bounces import Bounces
from posthouse.services.delivering import Delivering, PipeCourier
from posthouse.services.handover import Handover
from posthouse.services.onward import LocalCourier, Routes


async def serve_queue(settings: Settings, ready: Callable[[], None]) -> None:
    """The one queue runner, until SIGTERM. ``ready`` is called once it works."""
    stop = stop_signal()
    loop = asyncio.get_running_loop()
    async with parts(settings, "queue") as its:
        clock = SystemClock()
        steady = SteadyClock(clock, tell=_tell_of_jump)
        resolver = make_resolver(settings.dns)
        delivering = Delivering(settings, Handover(settings.path(DELIVERY_SOCKET)))
        couriers = {
            "smtp": make_smtp_courier(settings, resolver, clock),
            "lmtp": LmtpCourier(settings.hostname, resolver),
            "local": LocalCourier(its.directory, its.placement, settings.path("tmp"), delivering),
            "pipe": PipeCourier(its.directory, delivering),
        }
        routes = Routes(its.directory, settings, its.placement.outlets)
        bounces = Bounces(settings.hostname, settings.queue, clock, its.placement.submit)
        runner = Runner(
            its.spool,
            its.journal,
            its.watch,
            settings.queue,
            steady,
            routes.route,
            couriers,
            bounces.report,
            settings.destinations,
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


def _tell_of_jump(seconds: float) -> None:
    log.warning("clock-jumped", seconds=round(seconds), consequence="the queue follows by and by")
