"""A change that the directory does not make."""

from posthouse.base.errors import Refused, Reply


class NotChanged(Refused):
    """A change that was refused; the text is for whoever asked for it."""

    def __init__(self, text: str) -> None:
        super().__init__(Reply(550, "5.3.5", text))
