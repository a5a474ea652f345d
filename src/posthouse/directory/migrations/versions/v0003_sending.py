"""What logins may send as beyond their own addresses, and how much they may send.

It is frozen.
"""

from posthouse.directory.migrations.words import do, when

revision = "0003"
down_revision = "0002"

_TABLES = """
CREATE TABLE IF NOT EXISTS posthouse_senders (
    login {own_key} NOT NULL, address {own_key} NOT NULL, PRIMARY KEY (login, address)){options};
CREATE TABLE IF NOT EXISTS posthouse_limits (
    name {own_key} NOT NULL PRIMARY KEY, messages_per_hour BIGINT, messages_per_day BIGINT,
    recipients_per_hour BIGINT, recipients_per_day BIGINT, bytes_per_hour BIGINT, bytes_per_day BIGINT,
    new_recipients_per_hour BIGINT, new_recipients_per_day BIGINT,
    over_limit VARCHAR(16) NOT NULL DEFAULT ''){options};
"""


def upgrade() -> None:
    do(_TABLES)
    when("sqlite", "PRAGMA user_version = 3")


def downgrade() -> None:
    do("DROP TABLE IF EXISTS posthouse_limits", "DROP TABLE IF EXISTS posthouse_senders")
    when("sqlite", "PRAGMA user_version = 2")
