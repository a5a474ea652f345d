"""Everything that is measured, by name: a table (docs/metrics.md explains it).

Labels have few values, all of them ours; where a peer could choose one, it is ``other`` unless it is known here.
"""

import re

from posthouse.base.errors import PosthouseError, Reply
from posthouse.runtime.metrics import Counter, Gauge, Histogram

MOMENTS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds in which a client waits."""
ATTEMPTS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds that a delivery takes."""
WAITS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 432_000.0)
"""Seconds in the queue."""

# Connections

SESSIONS = Gauge("posthouse_sessions", "Open connections, by listener.", ("listener",))
CONNECTIONS = Counter("posthouse_connections_total", "Connections that were taken, by listener.", ("listener",))
SMTP_REPLIES = Counter(
    "posthouse_smtp_replies_total",
    "Answers to SMTP and LMTP clients: stage, result (accepted, deferred, refused) and reason.",
    ("service", "stage", "result", "reason"),
)
SMTP_BYTES = Counter("posthouse_smtp_message_bytes_total", "Octets of the messages that were accepted.", ("service",))
SMTP_SECONDS = Histogram(
    "posthouse_smtp_acceptance_seconds",
    "From MAIL FROM to the 250 for the message, the client's own time included.",
    ("service",),
    bounds=MOMENTS,
)
IMAP_COMMANDS = Counter(
    "posthouse_imap_commands_total", "IMAP commands by their completion: ok, no, bad.", ("command", "result")
)
IMAP_SECONDS = Histogram(
    "posthouse_imap_command_seconds",
    "From an IMAP command to its completion; not of IDLE.",
    ("command",),
    bounds=MOMENTS,
)
POP3_COMMANDS = Counter(
    "posthouse_pop3_commands_total", "POP3 commands that need an account or its mail.", ("command", "result")
)
POP3_SECONDS = Histogram(
    "posthouse_pop3_command_seconds", "From a POP3 command to its answer.", ("command",), bounds=MOMENTS
)
LOGINS = Counter(
    "posthouse_logins_total",
    "Logins by result: succeeded, failed, shut_out (by the guard), unavailable (who knows can't be asked).",
    ("protocol", "mechanism", "result"),
)
GUARD_BLOCKS = Counter(
    "posthouse_guard_blocks_total", "Addresses, networks and accounts that were shut out.", ("what",)
)

# The queue

QUEUE_MESSAGES = Gauge("posthouse_queue_messages", "Messages in the queue: active, deferred, hold.", ("state",))
QUEUE_OLDEST = Gauge("posthouse_queue_oldest_seconds", "Age of the oldest message in the queue.", ("state",))
DELIVERIES = Counter(
    "posthouse_deliveries_total",
    "Attempts of the queue, a recipient each: delivered, deferred, failed.",
    ("courier", "destination", "result"),
)
DELIVERY_REASONS = Counter(
    "posthouse_delivery_reasons_total",
    "Attempts that did not deliver, by the enhanced status of the answer.",
    ("courier", "result", "reason"),
)
ATTEMPT_SECONDS = Histogram(
    "posthouse_attempt_seconds",
    "How long an attempt took, for all recipients that it was for.",
    ("courier", "destination"),
    bounds=ATTEMPTS,
)
QUEUE_SECONDS = Histogram(
    "posthouse_queue_seconds", "Time in the queue until delivery, a recipient each.", ("courier",), bounds=WAITS
)
REPORTS = Counter("posthouse_reports_total", "Delivery reports that were made, by what they tell.", ("action",))
TLS_SESSIONS = Counter(
    "posthouse_outbound_tls_total",
    "Sessions with other hosts by policy and by what became of TLS, in the words of RFC 8460.",
    ("policy", "result"),
)

# What it stands on

JOURNAL_COMMITS = Histogram(
    "posthouse_journal_group_commits",
    "How many commits shared a sync of the journal.",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128),
)
JOURNAL_SECONDS = Histogram(
    "posthouse_journal_sync_seconds", "Writing and syncing a group of commits.", bounds=MOMENTS
)
DIRECTORY_LOOKUPS = Counter(
    "posthouse_directory_lookups_total",
    "Questions to the directory: known (cached), asked, stale (cached, as no database answers), failed.",
    ("result",),
)
DIRECTORY_SECONDS = Histogram(
    "posthouse_directory_lookup_seconds", "Asking the database, where that was needed.", bounds=MOMENTS
)
DATABASE_CHANGES = Counter(
    "posthouse_database_server_changes_total",
    "Database servers that are found up, down or read-only and were not before, counted by each process.",
    ("state",),
)
DNS_LOOKUPS = Counter(
    "posthouse_dns_lookups_total",
    "DNS look-ups: answer, no_such_name, no_answer (no such record), trouble.",
    ("type", "result"),
)
DNS_SECONDS = Histogram("posthouse_dns_lookup_seconds", "DNS look-ups, whatever came of them.", bounds=MOMENTS)

# The program

DEATHS = Counter(
    "posthouse_process_deaths_total", "Processes that ended by themselves and were started again.", ("process",)
)
RELOADS = Counter("posthouse_reloads_total", "SIGHUPs by result: done, refused.", ("result",))
STARTED = Gauge("posthouse_start_time_seconds", "When the server was started, in seconds since 1970.")
BUILD = Gauge("posthouse_build_info", "Always 1; the labels say what runs.", ("version", "python"))

_STATUS = re.compile(r"[245]\.[0-7]\.(?:\d|[12]\d|30)")
"""About what RFC 3463 and its registry have."""


def result_of(reply: Reply) -> str:
    """``accepted``, ``deferred`` or ``refused``."""
    return "accepted" if reply.is_success else "refused" if reply.is_permanent_failure else "deferred"


def reason_of(reply: Reply, error: PosthouseError | None = None) -> str:
    """Why not: the restriction's word, or else the enhanced status where it is a usual one."""
    if error is not None and error.word:
        return error.word
    return reply.status if _STATUS.fullmatch(reply.status) else "other"
