"""Asking an address's own server whether it takes mail for it, on the way that mail would go."""

import asyncio

from posthouse.base.clock import SystemClock
from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.outbound.delivery import SessionCourier
from posthouse.outbound.lmtp import LmtpCourier
from posthouse.outbound.outgoing import make_smtp_courier
from posthouse.outbound.session import HostUnavailableError
from posthouse.runtime.nameservers import make_resolver
from posthouse.services.onward import Routes
from posthouse.services.restrictions.verification import PROBE_SECONDS, Prober

LOCAL = Reply(250, "2.1.5", "It goes to a program or a mailbox here")


class Probes:
    """The probes of one process; name servers and couriers are made for the first of them."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._settings = settings
        self._routes = Routes(directory, settings)
        self._couriers: dict[str, SessionCourier] = {}
        self._resolver = None

    async def ask(self, address: str) -> Reply:
        """The server's reply, or what the DNS says. Never raises, and never takes longer than ``PROBE_SECONDS``."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                route = await self._routes.route(address, "")
                courier = self._courier(route.courier)
                return await courier.probe(address, route.destination) if courier else LOCAL
        except Refused as error:
            return error.reply
        except HostUnavailableError as error:
            # What a server says to all the world it does not say of this address.
            return error.reply if not error.reply.is_permanent_failure else _later(str(error.reply))
        except TryLater as error:
            return error.reply
        except TimeoutError:
            return _later("its server does not answer")

    async def close(self) -> None:
        for courier in self._couriers.values():
            await courier.close()
        if self._resolver is not None:
            await self._resolver.close()

    def _courier(self, name: str) -> SessionCourier | None:
        if name not in ("smtp", "lmtp"):
            return None
        if not self._couriers:
            self._resolver = make_resolver(self._settings.dns)
            self._couriers = {
                "smtp": make_smtp_courier(self._settings, self._resolver, SystemClock()),
                "lmtp": LmtpCourier(self._settings.hostname, self._resolver),
            }
        return self._couriers[name]


def make_prober(settings: Settings, directory: Directory) -> Prober:
    return Probes(settings, directory)


def _later(text: str) -> Reply:
    return Reply(451, "4.4.1", text)
