"""Threads (RFC 5256 §3, REFERENCES and ORDEREDSUBJECT; REFS as Dovecot has it).

Invariants:
  1. Each message is in one thread, once; whatever the references say, no message is its own ancestor.
  2. Nothing recurses. Looking for a loop climbs no more than ``MAX_CLIMB`` steps; what lies deeper counts as one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_CLIMB = 1000


class Threaded(NamedTuple):
    """What threading needs of a message. ``sent`` is the date received where there is no date in it."""

    uid: int
    sent: int
    base_subject: str
    is_reply: bool
    message_id: bytes
    references: bytes


@dataclass(slots=True, eq=False)
class Node:
    """A message, or (``uid`` 0) one that is only spoken of."""

    message: Threaded | None = None
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list["Node"])
    is_parent: bool = False
    """Whether it ever was one: what never was has nobody below it."""

    @property
    def uid(self) -> int:
        return self.message.uid if self.message else 0


def ordered_subject(messages: Iterable[Threaded]) -> list[Node]:
    """Messages of one base subject are one thread: the oldest, and all others below it."""
    threads: dict[str, Node] = {}
    for message in sorted(messages, key=lambda each: (each.sent, each.uid)):
        first = threads.get(message.base_subject)
        if first is None:
            threads[message.base_subject] = Node(message)
        else:
            first.children.append(Node(message))
    return list(threads.values())


def by_references(messages: Sequence[Threaded]) -> list[Node]:
    """REFERENCES: by what messages refer to, then by base subject; by date sent."""
    roots = _pruned(_linked(messages))
    _sort(roots, _sent)
    roots = _merge_subjects(roots)
    _sort(roots, _sent)
    return roots


def refs(messages: Sequence[Threaded]) -> list[Node]:
    """REFS: by what messages refer to alone; threads by the date of their newest message."""
    roots = _pruned(_linked(messages))
    _sort(roots, _sent)
    newest = {id(root): max(_sent(node) for node in _all([root]) if node.message) for root in roots}
    roots.sort(key=lambda root: newest[id(root)])
    return roots


def _sent(node: Node) -> tuple[int, int]:
    """A message that is only spoken of is as old as its first child."""
    message = node.message or node.children[0].message
    return (message.sent, message.uid) if message else (0, 0)


# Step 1 and 2 of RFC 5256's REFERENCES.


def _linked(messages: Iterable[Threaded]) -> list[Node]:
    """All nodes that have no parent."""
    known: dict[bytes, Node] = {}
    nodes: list[Node] = []
    for message in messages:
        node = known.get(message.message_id) if message.message_id else None
        if node is None or node.message is not None:  # no id, or one that another message has
            node = Node()
            if message.message_id and message.message_id not in known:
                known[message.message_id] = node
            nodes.append(node)
        node.message = message
        last: Node | None = None
        for name in message.references.split():
            referred = known.get(name)
            if referred is None:
                referred = known[name] = Node()
                nodes.append(referred)
            if last is not None and referred.parent is None:
                _link(last, referred)
            last = referred
        if node.parent is not last:
            _adopt(last, node)
    for node in nodes:
        if node.parent is not None:
            node.parent.children.append(node)
    return [node for node in nodes if node.parent is None]


def _link(parent: Node, child: Node) -> None:
    if parent is not child and not (child.is_parent and _is_within(parent, child)):
        child.parent = parent
        parent.is_parent = True


def _adopt(parent: Node | None, child: Node) -> None:
    """What a message says of itself counts more than what others said."""
    child.parent = None
    if parent is not None:
        _link(parent, child)


def _is_within(node: Node, ancestor: Node) -> bool:
    at: Node | None = node
    for _ in range(MAX_CLIMB):
        if at is None:
            return False
        if at is ancestor:
            return True
        at = at.parent
    return True


# Step 3.


def _pruned(roots: list[Node]) -> list[Node]:
    """Without those that are only spoken of, except where several threads are held together by one."""
    for node in reversed(_all(roots)):
        if any(child.message is None for child in node.children):
            kept: list[Node] = []
            for child in node.children:
                kept += [child] if child.message is not None else child.children
            node.children = kept
    result: list[Node] = []
    for root in roots:
        if root.message is not None or len(root.children) > 1:
            result.append(root)
        else:
            result += root.children
    return result


def _all(roots: Iterable[Node]) -> list[Node]:
    """Each before its children."""
    found = list(roots)
    for node in found:
        found += node.children
    return found


# Steps 4 and 6.


def _sort(roots: list[Node], key: Callable[[Node], tuple[int, int]]) -> None:
    for node in reversed(_all(roots)):  # children first: a parent may be as old as its first
        node.children.sort(key=key)
    roots.sort(key=key)


# Step 5.


def _merge_subjects(roots: list[Node]) -> list[Node]:
    """Threads of one base subject become one."""
    table: dict[str, Node] = {}
    for root in roots:
        subject, is_reply = _subject(root)
        if not subject:
            continue
        other = table.get(subject)
        if (
            other is None
            or (root.message is None and other.message is not None)
            or (_subject(other)[1] and other.message is not None and not is_reply and root.message is not None)
        ):
            table[subject] = root
    result: list[Node] = []
    merged: set[int] = set()
    for root in roots:
        if id(root) in merged:
            continue
        subject, _ = _subject(root)
        other = table.get(subject) if subject else None
        if other is None or other is root:
            result.append(root)
        else:
            table[subject] = _merge(other, root)
            if table[subject] is not other:
                merged.add(id(other))
                result.append(table[subject])
    return [root for root in result if id(root) not in merged]


def _merge(other: Node, root: Node) -> Node:
    """``root`` goes into the thread ``other``, or both into a new one."""
    if other.message is None:
        other.children += root.children if root.message is None else [root]
        return other
    if _subject(root)[1] and not _subject(other)[1]:
        other.children.append(root)
        return other
    return Node(children=[other, root])


def _subject(root: Node) -> tuple[str, bool]:
    message = root.message or root.children[0].message
    return (message.base_subject, message.is_reply) if message else ("", False)
