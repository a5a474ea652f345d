"""``posthouse config``: what the configuration says, and what it can say."""

from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.config import reference as references

app = terminal.noun("The configuration.")


@app.command()
def check() -> None:
    """Say whether the configuration is right, and if not, everything that is wrong."""
    terminal.settings()
    print("The configuration is right")


@app.command()
def show(as_json: Json = False) -> None:
    """Print the effective configuration, defaults included, passwords hidden."""
    settings = terminal.settings()
    if as_json:
        terminal.print_json(references.as_dict(settings))
    else:
        print(references.as_toml(settings), end="")


@app.command()
def reference() -> None:
    """Print every setting with its meaning and default, in Markdown."""
    print(references.reference(), end="")
