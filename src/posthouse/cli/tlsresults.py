"""``posthouse tls-results``: how TLS with other domains went, as it is counted for reports to them."""

import sqlite3
from dataclasses import asdict

from posthouse.base.errors import TryLater
from posthouse.cli import terminal
from posthouse.cli.terminal import Json
from posthouse.outbound.outgoing import TLS_RESULTS
from posthouse.outbound.tlsresults import read_results


def tls_results(as_json: Json = False) -> None:
    """Show how TLS with other domains went, by day, policy, host and result."""
    path = terminal.settings().path(TLS_RESULTS)
    try:
        found = read_results(path)
    except sqlite3.Error as error:
        raise TryLater(f"{path}: {error}") from error
    if as_json:
        terminal.print_json([{**asdict(one), "sessions": count} for one, count in found])
        return
    rows = [(one.day, one.domain, one.policy, one.host, one.result, count) for one, count in found]
    terminal.print_table(("DAY", "DOMAIN", "POLICY", "HOST", "RESULT", "SESSIONS"), rows)
