"""Stored passwords of every scheme."""

import base64
import hashlib

import bcrypt
import pytest

from posthouse.protocols.sasl.credentials import ScramKeys
from posthouse.protocols.sasl.md5 import cram_md5_context
from posthouse.services.passwords import (
    BadStoredPassword,
    clear_password,
    cram_md5,
    is_app_password,
    is_old_hash,
    new_app_password,
    new_secrets,
    scram_keys,
    split_scheme,
    verify,
)

SALT = b"\x01\x02\x03\x04"
SCRAM_KEYS, ARGON2ID = new_secrets("pässword")


def digest(algorithm: str, salt: bytes = SALT) -> str:
    return base64.b64encode(hashlib.new(algorithm, "pässword".encode() + salt).digest() + salt).decode()


STORED = [
    "pässword",
    "{PLAIN}pässword",
    "{plain}pässword",
    "{CLEARTEXT}pässword",
    "{ARGON2ID}" + ARGON2ID,
    "{SCRAM-SHA-256}" + SCRAM_KEYS,
    "{SHA}" + digest("sha1", b""),
    "{SSHA}" + digest("sha1"),
    "{SSHA256}" + digest("sha256"),
    "{SSHA512}" + digest("sha512"),
    "{BLF-CRYPT}" + bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode(),
    "{SHA1}" + digest("sha1", b""),
    "{SHA256}" + hashlib.sha256("pässword".encode()).hexdigest(),
    "{SHA512}" + digest("sha512", b""),
    "{SSHA256.hex}" + base64.b64decode(digest("sha256")).hex(),
    "{SSHA512.b64}" + digest("sha512"),
    "{PLAIN.base64}" + base64.b64encode("pässword".encode()).decode(),
    "{MD5}" + digest("md5", b""),
    "{MD5}$1$saltsalt$QgbQ7EUpcKNQTLgSVL4qr/",
    "{LDAP-MD5}" + digest("md5", b""),
    "{PLAIN-MD5}" + hashlib.md5("pässword".encode()).hexdigest(),
    "{SMD5}" + digest("md5"),
    "{SCRAM-SHA-1}" + str(ScramKeys.derive("pässword", SALT, 4096, "sha1")),
    "{CRAM-MD5}" + cram_md5_context("pässword".encode()).hex(),
    "{PBKDF2}$1$salt$50$" + hashlib.pbkdf2_hmac("sha1", "pässword".encode(), b"salt", 50).hex(),
    "{CRYPT}" + bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode(),
    "{MD5-CRYPT}$1$saltsalt$QgbQ7EUpcKNQTLgSVL4qr/",
    "{SHA256-CRYPT}$5$saltsalt$rQBvFGQx3u6doxkk7cvWbhhnhS2qa1.FI.tt6NGFH66",
    "{CRYPT}$5$saltsalt$rQBvFGQx3u6doxkk7cvWbhhnhS2qa1.FI.tt6NGFH66",
    "{SHA512-CRYPT}$6$saltsalt$rVIyJtXnL0mXUCLepstXWqeOv9JVyd7nOH8wn0BvOU5lCiAviUJLxXZ5CkPgq6XNTHV22yG4mV0IO9gqPL5WQ.",
]


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored[:14])
def test_right_password_is_recognised_and_another_is_not(stored: str):
    assert verify(stored, "pässword")
    for wrong in ("pässwore", "password", "pässword ", "", "pässword\0", "x" * 5000):
        assert not verify(stored, wrong)


@pytest.mark.parametrize(
    ("stored", "password"),
    [
        ("{SHA256-CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
        (
            "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
        ("{MD5-CRYPT}$1$saltsalt$le8lFSqqnPaRFOlmAZpvH1", "Hello world!"),
    ],
)
def test_published_examples_of_crypt_are_recognised(stored: str, password: str):
    """The SHA-crypt specification's; MD5's is what ``openssl passwd -1`` says."""
    assert verify(stored, password)
    assert not verify(stored, password + "x")


def test_traditional_crypt_counts_eight_octets():
    assert verify("{CRYPT}rl.3StKT.4T8M", "rasmuslerdorf")
    assert verify("{CRYPT}rl.3StKT.4T8M", "rasmusle")
    assert not verify("{CRYPT}rl.3StKT.4T8M", "rasmusl")


@pytest.mark.parametrize(
    "stored",
    [
        "{ROT13}frperg",
        "{ARGON2ID}secret",
        "{ARGON2ID}$argon2id$v=19$m=12288,t=3,p=1$AAAA$",
        "{SCRAM-SHA-256}4096,AAAA",
        "{SSHA}!!!!",
        "{SSHA}ü",
        "{SSHA}AAAA",
        "{SHA.hex}00",
        "{SSHA.rot13}AAAA",
        "{PLAIN-MD5}zz",
        "{CRAM-MD5}00",
        "{PBKDF2}$1$salt$0$00",
        "{PBKDF2}$2$salt$50$aa6e5b566a4d76fc6a49d79765aaec06057371a2",
        "{BLF-CRYPT}$2y$99$x",
        "{CRYPT}$99$unknown$x",
        "{CRYPT}",
        "{CRYPT}*",
        "{SHA512-CRYPT}",
    ],
)
def test_what_is_stored_wrongly_lets_nobody_in(stored: str):
    """It is the operator's to hear of, so it is an error and not just another wrong password."""
    with pytest.raises(BadStoredPassword):
        verify(stored, "secret")


@pytest.mark.parametrize(
    "stored",
    [
        "{ARGON2ID}$argon2id$v=19$m=2097152,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=12288,t=99999999,p=1$c2FsdHNhbHQ$" + "A" * 43,
        "{BLF-CRYPT}$2y$31$" + "." * 53,
        "{CRYPT}$2b$31$" + "." * 53,
        "{SHA512-CRYPT}$6$rounds=999999999$salt$" + "." * 86,
        "{SHA256-CRYPT}$5$rounds=00999999999$salt$" + "." * 43,
        "{CRYPT}$sha1$99999999$salt$" + "." * 28,
        "{CRYPT}$y$jzT$salt$" + "." * 43,
        "{CRYPT}$y$j9zzz$salt$" + "." * 43,
        "{CRYPT}$7$zU..../....salt$" + "." * 43,
        "{PBKDF2}$1$salt$99999999$" + "00" * 20,
        "{SCRAM-SHA-256}99999999,AAAA," + "A" * 43 + "=," + "A" * 43 + "=",
    ],
)
def test_a_hash_that_takes_minutes_is_not_checked(stored: str):
    """Or whoever may set one account's password keeps all others' from being checked."""
    with pytest.raises(BadStoredPassword):
        verify(stored, "secret")


def test_nothing_stored_lets_nobody_in():
    assert not verify("", "")
    assert not verify("", "secret")
    assert not verify("{PLAIN}", "secret")


def test_bare_crypt_string_is_a_hash_only_if_configured():
    bare = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    assert verify(bare, "Hello world!", plain_crypt=True)
    assert not verify(bare, bare, plain_crypt=True)
    assert not verify(bare, "Hello world!")
    assert verify("not-crypt", "not-crypt", plain_crypt=True)


def test_new_secrets_lead_back_to_the_password_only():
    assert ARGON2ID.startswith("$argon2id$")
    assert verify("{ARGON2ID}" + ARGON2ID, "pässword")
    assert ScramKeys.parse(SCRAM_KEYS).stored_key
    again = new_secrets("pässword")
    assert again[0] != SCRAM_KEYS
    assert again[1] != ARGON2ID


@pytest.mark.parametrize("password", ["", "a\0b", "x" * 1025])
def test_password_that_could_never_log_in_is_refused_when_set(password: str):
    with pytest.raises(ValueError, match="a password has"):
        new_secrets(password)


def test_typed_forms_of_one_password_are_the_same():
    """RFC 4013: a Roman numeral nine is what it looks like."""
    keys, argon2id = new_secrets("\u2168")
    assert verify("{ARGON2ID}" + argon2id, "IX")
    assert verify("{ARGON2ID}" + argon2id, "\u2168")
    assert verify("{SCRAM-SHA-256}" + keys, "IX")


def test_long_bcrypt_password_counts_up_to_72_octets():
    stored = "{BLF-CRYPT}" + bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify(stored, "x" * 100)


def test_readable_passwords_are_told_from_hashes():
    assert clear_password("secret") == "secret"
    assert clear_password("{PLAIN}secret") == "secret"
    assert clear_password("{PLAIN}") is None
    assert clear_password("{SSHA}AAAA") is None
    assert clear_password("$1$salt$abc", plain_crypt=True) is None
    assert split_scheme("{ssha}AAAA") == ("SSHA", "AAAA")


def test_scram_keys_are_found_in_a_clear_column():
    assert scram_keys("{SCRAM-SHA-256}" + SCRAM_KEYS) == ScramKeys.parse(SCRAM_KEYS)
    assert scram_keys("{SCRAM-SHA-256}broken") is None
    assert scram_keys("secret") is None


def test_what_other_mechanisms_need_is_found_in_a_clear_column():
    keys = ScramKeys.derive("secret", SALT, 4096, "sha1")
    assert scram_keys(f"{{SCRAM-SHA-1}}{keys}", "sha1") == keys
    assert scram_keys(f"{{SCRAM-SHA-1}}{keys}") is None
    context = cram_md5_context(b"secret")
    assert cram_md5("{CRAM-MD5}" + context.hex()) == context
    assert cram_md5("{CRAM-MD5}00") is None
    assert cram_md5("secret") is None


@pytest.mark.parametrize(
    ("stored", "is_old"),
    [
        ("secret", False),
        ("{PLAIN}secret", False),
        ("{ARGON2ID}" + ARGON2ID, False),
        ("{SCRAM-SHA-256}" + SCRAM_KEYS, False),
        ("{CRAM-MD5}00", False),
        ("{SSHA.hex}00", True),
        ("{CRYPT}$6$salt$hash", True),
        ("{BLF-CRYPT}$2y$05$x", True),
        ("$6$salt$hash", True),
    ],
)
def test_hashes_that_are_worth_replacing_are_known(stored: str, is_old: bool):
    assert is_old_hash(stored, ("CRAM-MD5",), plain_crypt=True) is is_old


def test_app_password_is_known_however_it_was_typed():
    password, kept = new_app_password()
    assert len(password) == 23
    assert verify(kept, password.replace("-", ""))
    for typed in (password, password.replace("-", ""), password.replace("-", " "), password.capitalize()):
        assert is_app_password(kept, typed)
    other, _ = new_app_password()
    for wrong in (other, password[:-1], "", "\udcff" * 20, password * 100):
        assert not is_app_password(kept, wrong)
    for broken in ("", "{SSHA256}", "{SSHA256}!", "ü"):
        assert not is_app_password(broken, password)
