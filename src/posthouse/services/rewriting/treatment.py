"""What is done with a whole message besides taking it in, as restrictions and header checks say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Treatment:
    """``hold``, ``discard``: why. ``redirect``: who gets it in place of its recipients; ``bcc``: who beside them."""

    hold: str = ""
    discard: str = ""
    redirect: str = ""
    bcc: tuple[str, ...] = ()

    def and_also(self, other: "Treatment") -> "Treatment":
        """Both; of two redirections the later one counts."""
        return Treatment(
            self.hold or other.hold,
            self.discard or other.discard,
            other.redirect or self.redirect,
            tuple(dict.fromkeys((*self.bcc, *other.bcc))),
        )


NOTHING = Treatment()


def parse_treatment(word: str, text: str) -> Treatment | None:
    """What ``HOLD``, ``DISCARD``, ``REDIRECT`` and ``BCC`` mean; None for any other word. Raises ``ValueError``."""
    match word:
        case "HOLD":
            return Treatment(hold=text or "held")
        case "DISCARD":
            return Treatment(discard=text or "discarded")
        case "REDIRECT" | "BCC":
            if "@" not in text or len(text.split()) != 1:
                raise ValueError(f"{word} needs an address")
            return Treatment(redirect=text) if word == "REDIRECT" else Treatment(bcc=(text,))
        case _:
            return None
