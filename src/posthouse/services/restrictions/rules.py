"""What each restriction that looks at names and addresses means: one small function a word.

Each is given the facts and its argument, and returns its decision, or None where it has nothing to say.
"""

import ipaddress
from collections.abc import Awaitable, Callable

from posthouse.base.errors import Refused, Reply
from posthouse.message.address import is_domain, split
from posthouse.runtime.resolver import ResolverTryLater
from posthouse.services.restrictions.decision import (
    PERMIT,
    Decision,
    Verdict,
    defer_if_permit,
    defer_if_reject,
    refuse,
)
from posthouse.services.restrictions.facts import Facts

Rule = Callable[[Facts, str], Awaitable[Decision | None]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Put a function into the table under its name."""
    RULES[function.__name__] = function
    return function


# Without a look at anything

ALWAYS: dict[str, Decision] = {
    "permit": PERMIT,
    "reject": refuse(554, "5.7.1", "Access denied"),
    "defer": refuse(450, "4.7.1", "Try again later"),
    "defer_if_permit": defer_if_permit(450, "4.7.1", "Try again later"),
    "defer_if_reject": defer_if_reject(450, "4.7.1", "Try again later"),
}


@rule
async def permit_mynetworks(facts: Facts, _: str) -> Decision | None:
    return PERMIT if facts.is_trusted else None


@rule
async def permit_sasl_authenticated(facts: Facts, _: str) -> Decision | None:
    return PERMIT if facts.login else None


@rule
async def permit_tls_encrypted(facts: Facts, _: str) -> Decision | None:
    return PERMIT if facts.tls else None


@rule
async def reject_plaintext_session(facts: Facts, _: str) -> Decision | None:
    return None if facts.tls else refuse(450, "4.7.1", "Session encryption is required")


@rule
async def reject_unauth_pipelining(facts: Facts, _: str) -> Decision | None:
    return refuse(503, "5.5.0", "Improper use of SMTP command pipelining") if facts.has_run_ahead else None


# The client's names


@rule
async def reject_unknown_client_hostname(facts: Facts, _: str) -> Decision | None:
    names = await facts.names()
    if names.verified:
        return None
    text = f"Client host rejected: cannot find your hostname, [{facts.client}]"
    reason = f"{names.reverse or 'no name'} is not confirmed for {facts.client}"
    return refuse(450, "4.7.25", text, "the DNS does not answer" if names.is_uncertain else reason)


@rule
async def reject_unknown_reverse_client_hostname(facts: Facts, _: str) -> Decision | None:
    names = await facts.names()
    if names.reverse:
        return None
    text = f"Client host rejected: cannot find your reverse hostname, [{facts.client}]"
    return refuse(450, "4.7.25", text, "the DNS does not answer" if names.is_uncertain else "no PTR record")


# What it calls itself


@rule
async def reject_invalid_helo_hostname(facts: Facts, _: str) -> Decision | None:
    name = facts.helo.rstrip(".")
    if _is_literal(name) or is_domain(name) or _is_address(name):
        return None
    return refuse(501, "5.5.2", f"<{facts.helo}>: Helo command rejected: Invalid name")


@rule
async def reject_non_fqdn_helo_hostname(facts: Facts, _: str) -> Decision | None:
    name = facts.helo.rstrip(".")
    if _is_literal(name) or (is_domain(name) and "." in name):
        return None
    return refuse(504, "5.5.2", f"<{facts.helo}>: Helo command rejected: need fully-qualified hostname")


@rule
async def reject_unknown_helo_hostname(facts: Facts, _: str) -> Decision | None:
    name = facts.helo.rstrip(".").lower()
    if _is_literal(name):
        return None
    text = f"<{facts.helo}>: Helo command rejected: Host not found"
    try:
        if is_domain(name) and await facts.exists(name):
            return None
    except ResolverTryLater as error:
        return defer_if_permit(450, "4.7.1", text, str(error))
    return refuse(450, "4.7.1", text)


# Addresses


@rule
async def reject_non_fqdn_sender(facts: Facts, _: str) -> Decision | None:
    return _non_fqdn(facts.sender, "Sender")


@rule
async def reject_non_fqdn_recipient(facts: Facts, _: str) -> Decision | None:
    return _non_fqdn(facts.recipient, "Recipient")


def _non_fqdn(address: str, what: str) -> Decision | None:
    domain = split(address)[1]
    if not address or address.lower() == "postmaster" or "." in domain or domain.startswith("["):
        return None
    return refuse(504, "5.5.2", f"<{address}>: {what} address rejected: need fully-qualified address")


@rule
async def reject_unknown_sender_domain(facts: Facts, _: str) -> Decision | None:
    null_mx = Reply(550, "5.7.27", f"<{facts.sender}>: Sender address rejected: its domain takes no mail")
    return await _unknown_domain(facts, facts.sender, "Sender", "1.8", null_mx)


@rule
async def reject_unknown_recipient_domain(facts: Facts, _: str) -> Decision | None:
    null_mx = Reply(556, "5.1.10", f"<{facts.recipient}>: Recipient address rejected: its domain takes no mail")
    return await _unknown_domain(facts, facts.recipient, "Recipient", "1.2", null_mx)


async def _unknown_domain(facts: Facts, address: str, what: str, status: str, null_mx: Reply) -> Decision | None:
    domain = split(address)[1]
    if not domain or domain.startswith("[") or await facts.directory.is_hosted(domain):
        return None
    text = f"<{address}>: {what} address rejected: Domain not found"
    try:
        has_mail = await facts.has_mail(domain)
    except ResolverTryLater as error:
        return defer_if_permit(450, f"4.{status}", text, str(error))
    if has_mail is None:  # RFC 7505 §4.2
        return Decision(Verdict.REFUSE, f"{domain} has a null MX", null_mx)
    return None if has_mail else refuse(450, f"4.{status}", text, f"{domain} has neither MX nor address")


@rule
async def reject_unauth_destination(facts: Facts, _: str) -> Decision | None:
    if facts.may_relay or not facts.recipient:
        return None
    try:
        resolution = await facts.resolution()
    except Refused:
        return None  # an address of ours that there isn't
    return refuse(554, "5.7.1", "Relay access denied") if resolution.relay else None


@rule
async def reject_unlisted_recipient(facts: Facts, _: str) -> Decision | None:
    error = await facts.is_unlisted(facts.recipient)
    return Decision(Verdict.REFUSE, error.reason, error.reply) if error else None


@rule
async def reject_unlisted_sender(facts: Facts, _: str) -> Decision | None:
    error = await facts.is_unlisted(facts.sender)
    if error is None:
        return None
    return refuse(550, "5.1.0", f"<{facts.sender}>: Sender address rejected: no such address here", error.reason)


@rule
async def reject_sender_login_mismatch(facts: Facts, _: str) -> Decision | None:
    # Whether somebody who has logged in may use it is asked at MAIL FROM, whatever the lists say.
    domain = facts.sender_domain
    if facts.login or not domain or not await facts.directory.is_hosted(domain):
        return None
    if await facts.is_unlisted(facts.sender):
        return None
    return refuse(553, "5.7.1", f"<{facts.sender}>: Sender address rejected: not logged in")


@rule
async def reject_multi_recipient_bounce(facts: Facts, _: str) -> Decision | None:
    count = facts.recipients + (facts.stage == "RCPT")
    is_one = bool(facts.sender) or count < 2
    return None if is_one else refuse(550, "5.5.3", "A delivery report has one recipient")


def _is_literal(name: str) -> bool:
    inside = name[1:-1] if name.startswith("[") and name.endswith("]") else ""
    return _is_address(inside.lower().removeprefix("ipv6:"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
