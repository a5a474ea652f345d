"""rspamd over HTTP: ``/checkv2`` for a verdict, ``/learnspam`` and ``/learnham`` for what users say."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from posthouse.base.errors import Reply
from posthouse.config.endpoints import Endpoint
from posthouse.filters.exchange import ask
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action, Finding, Verdict
from posthouse.message.headers import printable
from posthouse.protocols.http.client import Broken, HttpClientEngine, Response, request

ACTIONS = {
    "no action": Action.ACCEPT,
    "greylist": Action.ACCEPT,  # its own greylisting says "soft reject"
    "soft reject": Action.DEFER,
    "add header": Action.JUNK,
    "rewrite subject": Action.JUNK,
    "quarantine": Action.QUARANTINE,
    "discard": Action.DISCARD,
    "reject": Action.REJECT,
}
_SPAM = (Action.JUNK, Action.QUARANTINE, Action.DISCARD, Action.REJECT)
_MOST_SYMBOLS = 40


class RspamdFilter:
    """``servers``: rspamd's normal workers, in order of preference; ``password_file``: where they want one.

    Of a single recipient rspamd is told who it is for (``User`` too), so that its settings by user count.
    """

    def __init__(self, name: str, servers: Sequence[Endpoint], password_file: str = "") -> None:
        self.name = name
        self._servers = tuple(servers)
        self._password_file = password_file
        self._password = ""

    async def close(self) -> None:
        """Nothing is kept open."""

    async def judge(self, mail: Mail) -> Verdict:
        answer = await self._post("/checkv2", _facts(mail), mail)
        return _verdict(self.name, answer)

    async def learn(self, mail: Mail, account: str, *, is_spam: bool) -> bool:
        """Tell it what a user thinks of a message; whether that was new to it. Raises ``FilterTrouble``.

        ``servers`` have to be its controllers.
        """
        target = "/learnspam" if is_spam else "/learnham"
        answer = await self._post(target, {"Deliver-To": account}, mail, fine=(200, 204, 208))
        return bool(answer.get("success", False))

    async def _post(
        self, target: str, facts: Mapping[str, str], mail: Mail, fine: Sequence[int] = (200,)
    ) -> dict[str, Any]:
        headers = {name: value for name, value in facts.items() if value}
        if self._password_file:
            headers["Password"] = self._password = self._password or _read(self._password_file)
        size = len(mail.prefix) + mail.size

        def question() -> Iterable[bytes]:
            yield request("POST", target, "rspamd", headers, size)
            yield mail.prefix
            yield from mail.content.chunks()

        def accept(event: Response | Broken) -> dict[str, Any]:
            if isinstance(event, Broken):
                raise FilterTrouble(event.reason)
            if event.status not in fine:
                raise FilterTrouble(f"it says {event.status} {printable(event.body[:200].decode('latin-1'))}")
            return _object(event.body)

        return await ask(self._servers, question, HttpClientEngine, accept)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise FilterTrouble(f"password_file: {error}") from None


def _facts(mail: Mail) -> dict[str, str]:
    """What rspamd wants to know beside the message, by its names for it."""
    version, _, cipher = mail.tls.partition(" ")
    only = mail.recipients[0] if len(mail.recipients) == 1 else ""
    return {
        "From": mail.sender,
        "Rcpt": ", ".join(mail.recipients),
        "IP": mail.client if mail.client != "unix" else "",
        "Helo": mail.helo,
        "Hostname": mail.client_name,
        "Queue-Id": mail.trace_id,
        "User": mail.login,
        "Deliver-To": only,
        "TLS-Version": version,
        "TLS-Cipher": cipher,
        "MTA-Name": mail.hostname,
    }


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FilterTrouble("its answer is no JSON object")
    return cast("dict[str, Any]", found)


def _verdict(name: str, answer: dict[str, Any]) -> Verdict:
    """Raises ``FilterTrouble``."""
    word, score, limit = answer.get("action"), answer.get("score"), answer.get("required_score")
    if word not in ACTIONS or not isinstance(score, int | float):
        raise FilterTrouble("its answer has no action that is known, or no score")
    action = ACTIONS[word]
    symbols = _symbols(answer.get("symbols"))
    headers = [("X-Spam-Score", f"{score:.2f}" + (f" / {limit:.2f}" if isinstance(limit, int | float) else ""))]
    if action in _SPAM:
        headers.append(("X-Spam", "Yes"))
    findings = (Finding("spam", f"{word}, score {score:.2f}"),) if action in _SPAM else ()
    messages = answer.get("messages")
    said = cast("dict[str, Any]", messages).get("smtp_message") if isinstance(messages, dict) else None
    return Verdict(
        name,
        action,
        float(score),
        (f"{word}, score {score:.2f}: {', '.join(symbols)}",),
        tuple(headers),
        findings=findings,
        reply=_reply(action, said),
    )


def _symbols(symbols: object) -> list[str]:
    """Those that count, the heaviest first, each with its weight."""
    found: list[tuple[float, str]] = []
    for symbol, facts in cast("dict[str, Any]", symbols).items() if isinstance(symbols, dict) else ():
        weight = cast("dict[str, Any]", facts).get("score", 0) if isinstance(facts, dict) else 0
        if isinstance(weight, int | float):
            found.append((float(weight), symbol))
    found.sort(key=lambda one: (-abs(one[0]), one[1]))
    return [f"{symbol} ({weight:g})" for weight, symbol in found[:_MOST_SYMBOLS]]


def _reply(action: Action, said: object) -> Reply | None:
    if action is Action.DEFER:
        return Reply(451, "4.7.1", printable(str(said)) if said else "Try again later")
    if action is Action.REJECT:
        return Reply(554, "5.7.1", printable(str(said)) if said else "Spam message rejected")
    return None
