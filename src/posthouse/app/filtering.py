"""The filters of a process, as the configuration has them. Only what is used is imported."""

import contextlib
from collections.abc import AsyncIterator

from posthouse.app.parts import Parts
from posthouse.base.clock import SystemClock
from posthouse.config.endpoints import parse_endpoint
from posthouse.config.filtering import FilterSettings
from posthouse.config.settings import Settings
from posthouse.filters.filter import Filter
from posthouse.filters.pipeline import Entry, Pipeline
from posthouse.filters.quarantine import DIRECTORY, Quarantine
from posthouse.services.filtering.filtering import Filtering

SCANNERS = frozenset({"clamd", "command", "icap"})
"""The kinds that look for viruses: one can stand in for another."""


def pipeline(settings: Settings) -> Pipeline:
    """All filters that are configured."""
    entries = [
        Entry(
            _filter(name, one, settings),
            one.timeout_seconds,
            one.on_failure,
            scans=one.kind in SCANNERS,
            max_size_bytes=one.max_size_bytes,
        )
        for name, one in settings.filters.items()
    ]
    return Pipeline(entries, all_must=settings.filtering.agree == "all")


def _filter(name: str, one: FilterSettings, settings: Settings) -> Filter:
    match one.kind:
        case "clamd":
            from posthouse.filters.clamd import ClamdFilter

            return ClamdFilter(name, list(map(parse_endpoint, one.servers)), one.timeout_seconds, SystemClock())
        case "command":
            from posthouse.filters.command import CommandFilter

            return CommandFilter(name, one, settings.path("tmp"))
        case "icap":
            from posthouse.filters.icap import IcapFilter

            return IcapFilter(name, list(map(parse_endpoint, one.servers)), one.service)
        case "rspamd":
            from posthouse.filters.rspamd import RspamdFilter

            return RspamdFilter(
                name,
                list(map(parse_endpoint, one.servers)),
                settings.path(one.password_file) if one.password_file else "",
            )
        case "spamc":
            from posthouse.filters.spamc import SpamcFilter

            return SpamcFilter(name, list(map(parse_endpoint, one.servers)))
        case kind:
            raise AssertionError(f"{kind} is no kind of filter")


@contextlib.asynccontextmanager
async def filtering(its: Parts) -> AsyncIterator[Filtering | None]:
    """What a process needs to filter; None where no filter is configured."""
    settings = its.settings
    if not settings.filters:
        yield None
        return
    quarantine = Quarantine(settings.path(DIRECTORY))
    made = Filtering(pipeline(settings), its.directory, quarantine, settings.hostname, SystemClock())
    try:
        yield made
    finally:
        await made.close()
