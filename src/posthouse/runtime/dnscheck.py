"""Whether the configured name servers answer, how fast, and whether they validate.

Invariant: every server's verdict is there within the time limit, whatever it does.
"""

import asyncio
import time
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode

from posthouse.config.settings import Dns
from posthouse.runtime.nameservers import RESOLV_CONF, configured_servers, validating_servers


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """One name server. ``validates``: it has set the AD bit; ``is_believed``: that counts. ``problem``: what is wrong
    with it, or empty."""

    server: str
    seconds: float
    validates: bool
    is_believed: bool
    problem: str


async def check_servers(
    settings: Dns,
    name: str = ".",
    *,
    timeout_seconds: float = 5.0,
    resolv_conf: str = RESOLV_CONF,
    only_believed: bool = False,
) -> list[ServerCheck]:
    """Ask each, or those that are believed, for the SOA record of ``name``, which has to be signed; all at once.

    Raises ``ValueError`` for what is no name.
    """
    try:
        query = dns.message.make_query(name, "SOA", use_edns=0, want_dnssec=False)
    except dns.exception.DNSException as error:
        raise ValueError(f"{name!a} is no name: {error}") from None
    query.flags |= dns.flags.AD
    believed = set(validating_servers(settings, resolv_conf))
    servers = [
        server for server in configured_servers(settings, resolv_conf) if server in believed or not only_believed
    ]
    return await asyncio.gather(*[_check(server, query, timeout_seconds, server in believed) for server in servers])


def overall_problem(checks: list[ServerCheck], *, needs_validation: bool) -> str:
    """What is wrong with all of them together, or empty."""
    if not checks and not needs_validation:
        return "no name server is configured: nothing can be looked up"
    if needs_validation and not any(check.validates and check.is_believed for check in checks):
        return "no name server that is on this host, or in dns.trusted, validates: there is no DANE"
    return ""


async def _check(
    server: tuple[str, int], query: dns.message.Message, timeout_seconds: float, is_believed: bool
) -> ServerCheck:
    address, port = server
    text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    started = time.monotonic()
    validates, problem = False, ""
    try:
        async with asyncio.timeout(timeout_seconds):
            response, _ = await dns.asyncquery.udp_with_fallback(
                query, address, timeout_seconds, port, ignore_unexpected=True, ignore_errors=True
            )
        validates = bool(response.flags & dns.flags.AD)
        if response.rcode() != dns.rcode.NOERROR:
            problem = f"it says {dns.rcode.to_text(response.rcode())}"
        elif is_believed and not validates:
            problem = "it does not validate (no AD bit), and is asked to"
    except (TimeoutError, dns.exception.Timeout):
        problem = f"no answer within {timeout_seconds:g} s"
    except (dns.exception.DNSException, OSError, EOFError) as failure:
        problem = f"no answer: {failure or type(failure).__name__}"
    return ServerCheck(text, round(time.monotonic() - started, 3), validates, is_believed, problem)
