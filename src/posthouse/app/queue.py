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


async def warn_of_name_servers(settings: Settings) -> None:
    """Say in the log what is wrong with them; mail waits, or goes without DANE, until that is mended."""
    from posthouse.runtime.dnscheck import check_servers, overall_problem  # dnspython is for this process alone

    # Others are nobody's concern before there is mail.
    checks = await check_servers(settings.dns, only_believed=True)
    for check in checks:
        if check.problem:
            log.warning("name-server", server=check.server, seconds=check.seconds, problem=check.problem)
    if settings.smtp.dane and (problem := overall_problem(checks, needs_validation=True)):
        log.warning("name-servers", problem=problem, see="posthouse dns check")


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
        checking = loop.create_task(warn_of_name_servers(settings))
        ready()
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        checking.cancel()
        await runner.drain(DRAIN_SECONDS)
        await running
        for courier in (couriers["smtp"], couriers["lmtp"]):
            await courier.close()
        await resolver.close()


def _tell_of_jump(seconds: float) -> None:
    log.warning("clock-jumped", seconds=round(seconds), consequence="the queue follows by and by")
