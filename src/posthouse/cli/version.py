"""``posthouse version``."""

import platform

from posthouse import __version__
from posthouse.cli import terminal
from posthouse.cli.terminal import Json


def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        terminal.print_json({"posthouse": __version__, "python": platform.python_version()})
    else:
        print(f"posthouse {__version__}")
