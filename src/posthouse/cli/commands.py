"""All nouns together, but ``serve``, which is only described here: ``main`` runs it without any of this."""

from typing import Annotated

import typer

from posthouse.cli import (
    account,
    acl,
    alias,
    config,
    db,
    dns,
    domain,
    guard,
    importing,
    limits,
    mailbox,
    queue,
    relocated,
    searchindex,
    smtp,
    terminal,
    transport,
)
from posthouse.cli.audit import audit
from posthouse.cli.export import export
from posthouse.cli.metrics import metrics
from posthouse.cli.resolve import resolve
from posthouse.cli.route import route
from posthouse.cli.tlsresults import tls_results
from posthouse.cli.version import version

app = terminal.noun("Posthouse: a whole ISP mail host in one program.")


@app.callback(
    epilog="Every command takes --config FILE and --data DIR, anywhere on the line; POSTHOUSE_CONFIG and "
    "POSTHOUSE_DATA do the same."
)
def choose(context: typer.Context) -> None:
    if context.invoked_subcommand == "queue":
        context.obj = terminal.settings()


@app.command()
def serve(
    demo: Annotated[
        bool, typer.Option("--demo", help="Serve an example domain with two accounts on high ports of 127.0.0.1.")
    ] = False,
) -> None:
    """Run the mail host until it is stopped. SIGTERM drains, SIGHUP reloads."""


app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")
app.add_typer(dns.app, name="dns")
app.add_typer(domain.app, name="domain")
app.add_typer(account.app, name="account")
app.add_typer(alias.app, name="alias")
app.add_typer(relocated.app, name="relocated")
app.add_typer(transport.app, name="transport")
app.add_typer(importing.app, name="import")
app.command()(export)
app.command()(audit)
app.add_typer(guard.app, name="guard")
app.add_typer(limits.app, name="limits")
mailbox.app.add_typer(acl.app, name="acl")
app.add_typer(mailbox.app, name="mailbox")
mailbox.app.command("index")(searchindex.index)
app.add_typer(queue.app, name="queue")
app.add_typer(smtp.app, name="smtp")
app.command()(resolve)
app.command()(route)
app.command()(tls_results)
app.command()(metrics)
app.command()(version)
