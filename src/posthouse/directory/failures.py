"""What goes wrong with a database server, in words that mean the same for MariaDB, MySQL and PostgreSQL.

All of them are ``TryLater``: none is a reason to refuse mail. They differ in what helps.
"""

from collections.abc import Mapping, Sequence

from posthouse.base.errors import TryLater


class Failure(TryLater):
    """Something went wrong; ``reason`` says what, in the server's words."""


class Lost(Failure):
    """The connection is gone, or could not be made: a new one may do."""


class Unusable(Failure):
    """The server says itself that it can't serve anybody: another one has to."""


class Denied(Unusable):
    """The server doesn't let us in, or has no such database: what is configured is wrong there."""


class Full(Failure):
    """The server takes no further connection."""


class ReadOnly(Failure):
    """The server answers questions, but changes nothing: a replica."""


class Again(Failure):
    """A deadlock, or a conflict with another transaction: all of it once more will do."""


class Wrong(Failure):
    """The statement itself: an unknown table, a value that is too long. No other server would like it more."""


class Violated(Wrong):
    """A unique key, or another constraint."""


class TooLong(Wrong):
    """A value that a column has no room for; ``table`` and ``values``, by column, where they are known."""

    table = ""
    values: Sequence[Mapping[str, object]] = ()


class Inexpressible(ValueError):
    """A parameter that this database can't express. So no row has it."""


def blamed(failure: Exception, parameters: Sequence[object]) -> Exception:
    """``Inexpressible`` is a parameter's fault only where one is out of the ordinary; else rows or tables are wrong.

    To find nothing where rows are broken would refuse somebody's mail.
    """
    if isinstance(failure, Inexpressible):
        texts = [parameter for parameter in parameters if isinstance(parameter, str)]
        if all(text.isascii() and "\0" not in text for text in texts):
            return Wrong(str(failure))
    return failure
