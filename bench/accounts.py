"""Who has mail on the servers that are compared.

``user00``…``user99`` log in; further sets of a hundred (``user00-3``) give every SMTP run mailboxes that are new:
ext4 creates files slowly where many were deleted a moment ago. ``idle000``… are for idle sessions.
"""

DOMAIN = "bench.test"
PASSWORD = "secret"
MAILBOXES = 100
BIG, BIG_MESSAGES = "big", 10_000
POP, POP_MESSAGES = "pop", 1_000
IDLE = [f"idle{n:03}" for n in range(1_000)]
OWNER = 5000
"""User and group id of the Maildirs when we are root."""


def receivers(number: int) -> list[str]:
    """The hundred names of one set; set 0 is ``user00``…``user99``."""
    suffix = f"-{number}" if number else ""
    return [f"user{n:02}{suffix}" for n in range(MAILBOXES)]


def everyone(sets: int) -> list[str]:
    return [BIG, POP, *IDLE, *(name for number in range(sets) for name in receivers(number))]


def address(name: str) -> str:
    return f"{name}@{DOMAIN}"


def maildir(name: str) -> str:
    """Below the mail root, in Postfix's spelling for a Maildir."""
    return f"{DOMAIN}/{name}/"
