"""What is remembered of logins that were right."""

import pytest

from posthouse.base.clock import FakeClock
from posthouse.directory.model import AppPassword, StoredCredentials
from posthouse.protocols.sasl.credentials import ScramKeys
from posthouse.services import recent
from posthouse.services.recent import OTHERS_SECONDS, OWN_SECONDS, RecentLogins, Verified

ALICE = "alice@example.test"
STORED = StoredCredentials(ALICE, "", "", "hash", True)
SQL = Verified(ALICE, "sql")


def test_recent_logins_expire_sooner_where_others_said_so():
    clock = FakeClock()
    logins = RecentLogins(clock)
    logins.add(ALICE, STORED, "own", "imap", SQL)
    logins.add(ALICE, STORED, "other", "imap", Verified(ALICE, "ldap"))
    assert logins.find(ALICE, STORED, "other", "imap") == Verified(ALICE, "ldap")
    clock.advance(OTHERS_SECONDS)
    assert logins.find(ALICE, STORED, "other", "imap") is None
    assert logins.find(ALICE, STORED, "own", "imap") == SQL
    clock.advance(OWN_SECONDS)
    assert logins.find(ALICE, STORED, "own", "imap") is None


def test_recent_login_is_one_of_that_account_protocol_and_password_only():
    logins = RecentLogins(FakeClock())
    logins.add(ALICE, STORED, "secret", "imap", SQL)
    with_app = StoredCredentials(ALICE, "", "", "hash", True, (AppPassword(1, "phone", frozenset({"imap"}), "x"),))
    assert logins.find("bob@example.test", STORED, "secret", "imap") is None
    assert logins.find(ALICE, STORED, "Secret", "imap") is None
    assert logins.find(ALICE, STORED, "secret", "smtp") is None
    assert logins.find(ALICE, with_app, "secret", "imap") is None
    assert logins.find(ALICE, None, "secret", "imap") is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent, "MAX_RECENT", 3)
    clock = FakeClock()
    logins = RecentLogins(clock)
    keys = ScramKeys(b"salt", 1, b"", b"")
    for number in range(5):
        logins.add(ALICE, STORED, f"password{number}", "imap", SQL)
        logins.add_scram_keys(ALICE, f"password{number}", "sha256", keys)
        logins.add_place(f"192.0.2.{number}", ALICE)
    assert len(logins) == 3
    assert logins.find(ALICE, STORED, "password1", "imap") is None
    assert logins.find(ALICE, STORED, "password4", "imap") == SQL
    assert logins.scram_keys(ALICE, "password1", "sha256") is None
    assert logins.scram_keys(ALICE, "password4", "sha256") == keys
    assert not logins.has_been_at("192.0.2.1", ALICE)
    assert logins.has_been_at("192.0.2.4", ALICE)
    clock.advance(OWN_SECONDS)
    assert not logins.has_been_at("192.0.2.4", ALICE)
