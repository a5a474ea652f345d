"""What single rows say about themselves."""

import pytest

from posthouse.services.rowchecks import (
    Expected,
    UserRow,
    check_destination,
    check_key,
    check_password,
    check_user,
    normal_path,
)
from posthouse.services.tablecopy import folded

EXPECTED = Expected(
    minimum_uid=100, uid=-1, plain_crypt=False, qualify=lambda text: text if "@" in text else f"{text}@h"
)


def kinds(check, *arguments, **options):
    found = []
    check(*arguments, lambda kind, _="": found.append(kind), **options)
    return found


@pytest.mark.parametrize(
    ("role", "key", "expected"),
    [
        ("users", "bob@a.test", []),
        ("users", "Bob@a.test", ["capitals"]),
        ("users", "", ["empty-key"]),
        ("users", "bob@a.test ", ["spaces-in-key"]),
        ("users", "bob", ["not-a-key"]),
        ("users", "b\ufffdb@a.test", ["broken-text"]),
        ("users", "@a.test", ["not-a-key"]),
        ("users", "bob@bücher.test", ["unicode-domain"]),
        ("users", "bob'; DROP TABLE users@", ["spaces-in-key"]),
        ("virtual", "a.test", []),
        ("virtual", "@a.test", []),
        ("virtual", "root", []),
        ("virtual", '"b b"@a.test', []),
        ("virtual", "@..", ["not-a-key"]),
        ("transport", ".a.test", []),
        ("transport", "*", []),
        ("transport", "@a.test", ["not-a-key"]),
        ("transport", "bücher.test", ["unicode-domain"]),
        ("alias", "owner-list", []),
        ("alias", "x@a.test", ["not-a-key"]),
    ],
)
def test_a_key_can_be_found_or_it_says_why_not(role, key, expected):
    assert kinds(lambda *args: check_key(role, key, *args)) == expected


def test_capitals_are_never_found_where_the_collation_minds_them():
    assert kinds(lambda found: check_key("users", "Bob@a.test", found, case_sensitive="x_bin")) == ["case-sensitive"]


@pytest.mark.parametrize(
    ("role", "key", "value", "expected"),
    [
        ("virtual", "x@a.test", "bob@a.test, root,@b.test", []),
        ("virtual", "x@a.test", ",", ["empty-destination"]),
        ("virtual", "a.test", "whatever it is", []),
        ("virtual", "x@a.test", "a b", ["bad-destination"]),
        ("virtual", "x@a.test", '"a, b"@a.test, bob@a.test', []),
        ("virtual", "@a.test", "@b b", ["bad-destination"]),
        ("alias", "list", "|/bin/false", ["host-programs"]),
        ("alias", "list", ":include:/x", ["host-programs"]),
        ("relocated", "x@a.test", "", []),
        ("transport", "a.test", "", []),
        ("transport", "a.test", "LMTP:unix:/x", []),
        ("transport", "a.test", "cyrus:", ["unknown-transport"]),
    ],
)
def test_a_destination_can_be_used_or_it_says_why_not(role, key, value, expected):
    assert kinds(lambda found: check_destination(role, key, value, EXPECTED, found)) == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("geheim", ["plain-passwords"]),
        ("{PLAIN}geheim", ["plain-passwords"]),
        ("abcdefghijklm", ["plain-passwords", "maybe-crypt"]),
        ("$6$salt$hash", ["bare-crypt"]),
        ("{CRYPT}$6$salt$hash", []),
        ("{CRYPT}$1$salt$hash", ["weak-scheme"]),
        ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", ["weak-scheme"]),
        ("{SHA}?", ["bad-password"]),
        ("{NONSENSE}x", ["bad-password"]),
    ],
)
def test_a_password_is_told_by_how_it_is_kept(stored, expected):
    assert kinds(lambda found: check_password(stored, EXPECTED, found)) == expected


def test_an_account_says_what_is_wrong_with_it():
    good = UserRow("", "1001", "1001", "a.test/bob/", "1000S,10C")
    assert kinds(lambda found: check_user(good, EXPECTED, found)) == []
    bad = UserRow("", "", "1001", "/var/mail/", "10 MB")
    assert kinds(lambda found: check_user(bad, EXPECTED, found)) == ["maildir-outside", "low-uid", "bad-quota"]
    served = Expected(100, 500, False, str)
    assert kinds(lambda found: check_user(good, served, found)) == ["other-owner"]


def test_paths_and_keys_are_compared_by_what_they_mean():
    assert normal_path("a//b/./c") == normal_path("a/b/c/") == "a/b/c/"
    assert normal_path("../a/") == normal_path("/a/") == normal_path("") == ""
    assert folded("René@A.test") == folded("rene@a.test")
