"""What a policy says of filtering: system, domain and account, in each direction. Pure.

A rule is a name with a value at one scope. Of several for one name the narrowest counts: the account's, then its
domain's, then the system's; at one scope what is said of the direction, then what is said of all of them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

DIRECTIONS = ("inbound", "submitted", "outbound")
"""From elsewhere to here; from a user of ours to here; from a user of ours to elsewhere."""
KINDS = ("virus", "file", "encrypted", "broken", "unscanned", "spam")
"""What may be found. ``file``: one whose name or type is not wanted; ``unscanned``: too large or deep to look at."""
SYSTEM = "*"
ANY = "*"
ACTIONS = ("accept", "tag", "junk", "hold", "quarantine", "defer", "discard", "reject")
_SCORES = ("tag_score", "junk_score", "quarantine_score", "reject_score")
_SWITCHES = ("notify_hostmaster", "notify_sender", "notify_recipient")
DEFAULTS = {"virus": "reject", "file": "reject", "encrypted": "accept", "broken": "accept", "unscanned": "tag",
            "hostmaster": "postmaster", "language": "en", **dict.fromkeys(_SWITCHES, "off")}  # fmt: skip
"""What counts where nobody says anything. Of ``spam`` and the scores nothing: a filter's own action stands."""


def _choice(*values: str) -> Callable[[str], str]:
    return lambda value: "" if value in values else "one of " + ", ".join(values)


def _score(value: str) -> str:
    return "" if value == "off" or re.fullmatch(r"-?\d{1,6}(\.\d{1,3})?", value) else "a number, or off"


def _address(value: str) -> str:
    return "" if re.fullmatch(r"[^\s@<>]+(@[^\s@<>]+)?", value) else "a name at the domain, or an address"


def _language(value: str) -> str:
    return "" if re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", value) else "a language, as in en"


SETTINGS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(KINDS, _choice(*ACTIONS)),
    **dict.fromkeys(_SCORES, _score),
    **dict.fromkeys(_SWITCHES, _choice("on", "off")),
    "hostmaster": _address,
    "language": _language,
}
"""Every name that a rule may have, and what is wrong with a value; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``name`` = ``value`` at a ``scope``: ``*``, a domain or an account; ``direction`` may be ``*``."""

    scope: str
    direction: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts for one recipient in one direction, by name."""

    rules: tuple[Rule, ...] = ()
    _by_name: dict[str, Rule] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {rule.name: rule for rule in self.rules})

    def rule(self, name: str) -> Rule | None:
        """What counts for a name, or None."""
        return self._by_name.get(name)

    def value(self, name: str) -> str:
        found = self._by_name.get(name)
        return found.value if found is not None else ""

    def is_on(self, name: str) -> bool:
        return self.value(name) == "on"


_DEFAULT_RULES = tuple(Rule("default", ANY, name, value) for name, value in DEFAULTS.items())


def policy_of(rules: Iterable[Rule], scopes: tuple[str, ...], direction: str) -> Policy:
    """The policy of one whose ``scopes`` are these, the widest first, in a direction.

    Rules of other scopes and directions don't count, nor do those with a value that can't be: what is written by hand
    into the table breaks nothing.
    """
    ranks = {scope: rank for rank, scope in enumerate(scopes)}
    chosen: dict[str, tuple[tuple[int, int], Rule]] = {rule.name: ((-1, 0), rule) for rule in _DEFAULT_RULES}
    for rule in rules:
        if rule.scope not in ranks or rule.direction not in (ANY, direction):
            continue
        check = SETTINGS.get(rule.name)
        rank = (ranks[rule.scope], int(rule.direction != ANY))
        if check is None or check(rule.value) or rank < chosen.get(rule.name, ((-1, 0), rule))[0]:
            continue
        chosen[rule.name] = (rank, rule)
    return Policy(tuple(rule for _, rule in chosen.values()))


DEFAULT_POLICY = Policy(_DEFAULT_RULES)
