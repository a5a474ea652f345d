"""The lists, gone through in order as Postfix does (smtpd_recipient_restrictions(5) and its like).

At each RCPT TO the lists for client, hello, sender and recipient are gone through, one after the other; at the start
of the data the one for data. To permit ends a list only; to refuse ends them all.

Invariants:
  1. Look-ups are made when a restriction is reached that wants them, not before; DNS lists all at the first of them.
  2. Whatever the lists say, nobody relays without permission: ``services.reception`` sees to that afterwards.
  3. What can't be found out refuses nobody for good.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from posthouse.base.errors import Reply
from posthouse.config.restrictions import Restriction, parse_dns_list, parse_list
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.message.headers import printable
from posthouse.runtime.log import log
from posthouse.runtime.resolver import DnsResolver, Resolver
from posthouse.services.restrictions.actions import parse_action
from posthouse.services.restrictions.decision import Decision, Outcome, Step, Verdict, refuse
from posthouse.services.restrictions.dnslists import DnsLists
from posthouse.services.restrictions.facts import Facts
from posthouse.services.restrictions.greylist import GREYLIST_FILE, Greylist
from posthouse.services.restrictions.listrules import WORDS as LIST_WORDS
from posthouse.services.restrictions.listrules import ask_ahead, ask_list, ask_scored
from posthouse.services.restrictions.policies import Policies, PolicyTrouble, attributes
from posthouse.services.restrictions.rules import ALWAYS, RULES
from posthouse.services.restrictions.tables import Tables, read
from posthouse.services.restrictions.verification import UNVERIFIED, VERIFY_FILE, Verification
from posthouse.services.rewriting.treatment import NOTHING
from posthouse.services.textfiles import TableError

Note = Callable[[Step], None]
MAX_DEPTH = 10
_NETWORK_STAGES = frozenset({"client", "helo"})
_FREE = frozenset({"permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination", "permit"})


def broken_tables(settings: Settings) -> list[str]:
    """What is wrong with the access tables that the lists name, a line each."""
    problems: list[str] = []
    for path in dict.fromkeys(one.argument for _, one in _all(settings) if one.word.endswith("_access")):
        try:
            read(settings.path(path))
        except TableError as error:
            problems.append(str(error))
    return problems


def _all(settings: Settings) -> list[tuple[str, Restriction]]:
    return [(stage, one) for stage, ones in _lists(settings).items() for one in ones]


def _lists(settings: Settings) -> dict[str, tuple[Restriction, ...]]:
    smtp = settings.smtp
    return {
        "client": parse_list(smtp.client_restrictions),
        "helo": parse_list(smtp.helo_restrictions),
        "sender": parse_list(smtp.sender_restrictions),
        "recipient": parse_list(smtp.recipient_restrictions),
        "data": parse_list(smtp.data_restrictions),
    }


@contextlib.asynccontextmanager
async def open_restrictions(settings: Settings, directory: Directory) -> "AsyncIterator[Restrictions]":
    """The lists of one process, and the name servers that are asked for them, while they are used."""
    servers = settings.dns.servers
    resolver = DnsResolver(servers)
    dns_lists = DnsLists(servers, timeout_seconds=settings.dnslists.timeout_seconds)
    verification = _verification(settings, directory)
    restrictions = Restrictions(settings, directory, resolver, dns_lists, verification)
    try:
        yield restrictions
    finally:
        await restrictions.close()
        if verification is not None:
            await verification.close()
        await dns_lists.close()
        await resolver.close()


def _verification(settings: Settings, directory: Directory) -> "Verification | None":
    if not any(one.word in UNVERIFIED for _, one in _all(settings)) and not _has_tables(settings):
        return None
    # Only who probes needs the client.
    from posthouse.services.restrictions.probing import make_prober

    return Verification(directory, settings.path(VERIFY_FILE), settings.verify, make_prober(settings, directory))


def _has_tables(settings: Settings) -> bool:
    """Whether something may name a restriction that stands in no list."""
    return any(one.word.endswith("_access") or one.word == "check_policy_service" for _, one in _all(settings))


class Restrictions:
    """The lists of one process, and what they need to be gone through."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        resolver: Resolver,
        dns_lists: DnsLists,
        verification: Verification | None = None,
    ) -> None:
        self.directory = directory
        self.resolver = resolver
        self.dns_lists = dns_lists
        self.is_dry = False
        """Nothing is remembered by asking: for explanations."""
        self._verification = verification
        self._settings = settings
        self._lists = _lists(settings)
        self._sites = tuple(parse_dns_list(site) for site in settings.dnslists.sites)
        self._tables = Tables()
        self._policies = Policies(settings.smtp.policy_timeout_seconds)
        self._greylist = Greylist(settings.path(GREYLIST_FILE), settings.greylist)
        self.decides_nothing = all(one.word in _FREE for stage, one in _all(settings) if stage != "data")
        """Whether what the lists say about a recipient is what happens anyhow."""
        self.has_data_list = bool(self._lists["data"])
        self.decides = self.has_data_list or not self.decides_nothing

    async def close(self) -> None:
        self._policies.close()
        await self._greylist.close()

    async def recipient(self, facts: Facts, note: Note | None = None) -> Outcome:
        """What comes of RCPT TO. Raises ``TryLater``: a table, or the directory."""
        stages = ("client", "helo", "sender", "recipient")
        wanted = [stage for stage in stages if not (facts.is_submission and stage in _NETWORK_STAGES)]
        return await _Walk(self, facts, note).all([(stage, self._lists[stage]) for stage in wanted])

    async def data(self, facts: Facts, note: Note | None = None) -> Outcome:
        """What comes of DATA."""
        return await _Walk(self, facts, note).all([("data", self._lists["data"])])

    async def ask(self, one: Restriction, facts: Facts) -> Decision | Restriction | None:
        """What one restriction says; a table's or service's answer may be another one."""
        word = one.word
        if word in ALWAYS:
            return ALWAYS[word]
        if word in RULES:
            return await RULES[word](facts, one.argument)
        if word in LIST_WORDS:
            return await ask_list(facts, word, one.argument)
        return await self._OTHERS[word](self, facts, one.argument)

    async def ask_ahead(self, restrictions: Sequence[Restriction], facts: Facts) -> None:
        await ask_ahead(restrictions, self._sites, facts)

    async def _scored(self, facts: Facts, _: str) -> Decision | None:
        return await ask_scored(facts, self._sites, self._settings.dnslists.threshold)

    async def _policy(self, facts: Facts, address: str) -> Decision | Restriction | None:
        try:
            action = await self._policies.ask(address, await attributes(facts))
            return parse_action(action)
        except (PolicyTrouble, ValueError) as error:
            reason = str(error)
            log.warning("policy-unavailable", service=address, reason=reason)
            fallback = parse_action(self._settings.smtp.policy_default_action)
        if isinstance(fallback, Decision) and fallback.verdict is Verdict.REFUSE and fallback.reply is not None:
            return Decision(Verdict.REFUSE, reason, fallback.reply)
        return fallback

    async def _grey(self, facts: Facts, _: str) -> Decision | None:
        if facts.stage != "RCPT":
            return None
        seconds = await self._greylist.wait_seconds(
            facts.client, facts.sender, facts.recipient, counts=not self.is_dry
        )
        if not seconds:
            return None
        text = f"Greylisted: please try again in {seconds} seconds"
        return refuse(450, "4.7.1", text, f"first seen just now, or comes back {seconds} s too early")

    async def _unverified_sender(self, facts: Facts, _: str) -> Decision | None:
        return await self._unverified(facts.sender, "Sender", "1.7")

    async def _unverified_recipient(self, facts: Facts, _: str) -> Decision | None:
        return await self._unverified(facts.recipient, "Recipient", "1.1")

    async def _unverified(self, address: str, what: str, status: str) -> Decision | None:
        if "@" not in address or self._verification is None:
            return None
        found = await self._verification.verdict(address, remembers=not self.is_dry)
        front = f"<{printable(address)}>: {what} address rejected"
        if found.is_good:
            return None
        if found.is_good is None:
            return refuse(450, f"4.{status}", f"{front}: unverified address: {found.text}", found.text)
        return refuse(550, f"5.{status}", f"{front}: undeliverable address: {found.text}", found.text)

    async def _client_access(self, facts: Facts, path: str) -> Decision | Restriction | None:
        table = await self._tables.table(self._settings.path(path))
        name = (await facts.names()).verified
        return _acted(table.client(name, facts.client), f"client {name or facts.client}")

    async def _helo_access(self, facts: Facts, path: str) -> Decision | Restriction | None:
        table = await self._tables.table(self._settings.path(path))
        return _acted(table.host(facts.helo), f"hello {facts.helo}")

    async def _sender_access(self, facts: Facts, path: str) -> Decision | Restriction | None:
        table = await self._tables.table(self._settings.path(path))
        return _acted(table.address(facts.sender, self._delimiter), f"sender <{facts.sender}>")

    async def _recipient_access(self, facts: Facts, path: str) -> Decision | Restriction | None:
        table = await self._tables.table(self._settings.path(path))
        if not facts.recipient:
            return None
        return _acted(table.address(facts.recipient, self._delimiter), f"recipient <{facts.recipient}>")

    @property
    def _delimiter(self) -> str:
        return self._settings.smtp.recipient_delimiter

    _OTHERS: ClassVar[dict[str, Callable[["Restrictions", Facts, str], Awaitable[Decision | Restriction | None]]]] = {
        "reject_dnslists": _scored,
        "check_policy_service": _policy,
        "check_greylist": _grey,
        "reject_unverified_sender": _unverified_sender,
        "reject_unverified_recipient": _unverified_recipient,
        "check_client_access": _client_access,
        "check_helo_access": _helo_access,
        "check_sender_access": _sender_access,
        "check_recipient_access": _recipient_access,
    }


def _acted(action: str | None, what: str) -> Decision | Restriction | None:
    if action is None:
        return None
    found = parse_action(action)
    if isinstance(found, Decision) and found.verdict is not Verdict.PERMIT:
        return Decision(found.verdict, f"{what}: {action}", found.reply, found.header, found.treatment)
    return found


class _Walk:
    """One way through the lists."""

    def __init__(self, restrictions: Restrictions, facts: Facts, note: Note | None) -> None:
        self._restrictions = restrictions
        self._facts = facts
        self._note = note
        self._if_permit: Outcome | None = None
        self._if_reject: Outcome | None = None
        self._headers: list[str] = []
        self._treatment = NOTHING
        self._has_asked_ahead = False
        self._ahead: list[Restriction] = []

    async def all(self, lists: Sequence[tuple[str, Sequence[Restriction]]]) -> Outcome:
        self._ahead = [one for _, ones in lists for one in ones]
        for stage, ones in lists:
            refused = await self._list(stage, ones)
            if refused is not None:
                return refused
        if self._if_permit is not None:
            return self._if_permit
        return Outcome(headers=tuple(self._headers), treatment=self._treatment)

    async def _list(self, stage: str, ones: Sequence[Restriction]) -> Outcome | None:
        for one in ones:
            decision = await self._ask(one)
            self._tell(stage, one, decision)
            if decision is None:
                continue
            if decision.verdict is Verdict.PERMIT:
                return None
            if refused := self._weigh(stage, one, decision):
                return refused
        return None

    async def _ask(self, one: Restriction) -> Decision | None:
        if not self._has_asked_ahead and (one.word in LIST_WORDS or one.word == "reject_dnslists"):
            self._has_asked_ahead = True
            await self._restrictions.ask_ahead(self._ahead[self._ahead.index(one) :], self._facts)
        asked: Restriction = one
        for _ in range(MAX_DEPTH):
            found = await self._restrictions.ask(asked, self._facts)
            if not isinstance(found, Restriction):
                return found
            asked = found
        reply = Reply(451, "4.3.5", "Server configuration problem")
        return Decision(Verdict.REFUSE, f"{asked}: tables that lead to each other", reply)

    def _weigh(self, stage: str, one: Restriction, decision: Decision) -> Outcome | None:
        """What comes of it where this refuses."""
        reason = f"{stage}: {one}: {decision.reason}"
        if one.only_warns or decision.verdict is Verdict.WARN:
            if decision.verdict is not Verdict.PREPEND:
                self._warn(decision, reason)
            return None
        if decision.verdict is Verdict.PREPEND:
            self._headers.append(decision.header)
            return None
        if decision.verdict is Verdict.TREAT:
            self._treatment = self._treatment.and_also(decision.treatment)
            return None
        assert decision.reply is not None
        outcome = Outcome(decision.reply, reason, word=one.word)
        if decision.verdict is Verdict.DEFER_IF_PERMIT:
            self._if_permit = self._if_permit or outcome
        elif decision.verdict is Verdict.DEFER_IF_REJECT:
            self._if_reject = self._if_reject or outcome
        elif self._if_reject is not None:
            return replace(self._if_reject, reason=f"{self._if_reject.reason}; otherwise {reason}")
        else:
            return outcome
        return None

    def _warn(self, decision: Decision, reason: str) -> None:
        if self._restrictions.is_dry:
            return
        facts = self._facts
        log.warning(
            "restriction-warns",
            peer=facts.client,
            helo=facts.helo,
            sender=facts.sender,
            recipient=facts.recipient,
            reply=str(decision.reply or ""),
            reason=reason,
        )

    def _tell(self, stage: str, one: Restriction, decision: Decision | None) -> None:
        if self._note is None:
            return
        if decision is None:
            text = "nothing to say"
        elif decision.verdict is Verdict.PERMIT:
            text = "permit"
        elif decision.verdict is Verdict.TREAT:
            text = decision.reason
        elif decision.verdict is Verdict.PREPEND:
            text = f"prepend {decision.header}"
        else:
            word = "only warns; would " if one.only_warns else ""
            reply = f": {decision.reply}" if decision.reply else ""
            reason = decision.reason if not decision.reply or decision.reason != decision.reply.text else ""
            text = f"{word}{decision.verdict.value}{reply}" + (f" ({reason})" if reason else "")
        self._note(Step(stage, str(one), text))
