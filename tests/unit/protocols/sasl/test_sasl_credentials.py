"""SASLprep and the stored form of SCRAM's keys."""

import pytest

from posthouse.protocols.sasl.credentials import Credentials, ScramKeys
from posthouse.protocols.sasl.prepare import password_bytes, prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_examples_of_the_rfc_are_prepared(text: str, prepared: str):
    """RFC 4013 §3, and §2.1 for the space."""
    assert prepare(text) == prepared


@pytest.mark.parametrize("text", ["\x07", "\u0627\u0031", "a\u0627", "\ue000", "\ufdd0", "\ud800", "\u200f"])
def test_prohibited_text_is_refused(text: str):
    """RFC 4013 §3, last two examples, and §2.3."""
    with pytest.raises(ValueError):
        prepare(text)


def test_right_to_left_text_passes():
    assert prepare("\u0627\u0031\u0628") == "\u0627\u0031\u0628"


def test_unassigned_code_points_are_refused_only_in_stored_strings():
    """RFC 3454 §7."""
    assert prepare("\U0001f600") == "\U0001f600"
    with pytest.raises(ValueError, match="unassigned"):
        prepare("\U0001f600", stored=True)


def test_password_that_cannot_be_prepared_counts_as_it_is():
    assert password_bytes("\U0001f600") == "\U0001f600".encode()
    assert password_bytes("\u2168") == b"IX"


def test_scram_keys_survive_their_text_form():
    keys = ScramKeys.derive("pencil", b"0123456789abcdef", 4096)
    assert ScramKeys.parse(str(keys)) == keys
    assert str(keys).startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")


def test_dovecot_form_of_scram_keys_is_understood():
    keys = ScramKeys.derive("pencil", b"0123456789abcdef", 4096)
    dovecot = str(keys).removeprefix("SCRAM-SHA-256$").replace("$", ",").replace(":", ",")
    assert ScramKeys.parse(dovecot) == keys


def test_keys_of_sha_1_have_a_text_form_of_their_own():
    keys = ScramKeys.derive("pencil", b"salt", 4096, "sha1")
    assert str(keys).startswith("SCRAM-SHA-1$4096:")
    assert ScramKeys.parse(str(keys), "sha1") == keys
    with pytest.raises(ValueError, match="SCRAM-SHA-256"):
        ScramKeys.parse(str(keys))


@pytest.mark.parametrize(
    "text",
    ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA", "x,y,z,w", "0,,,"]
    + [f"{count},AAAA,{'A' * 43}=,{'A' * 43}=" for count in ("0", "-1", "٣", "99999999", "9" * 5000)],
)
def test_broken_scram_keys_are_refused(text: str):
    with pytest.raises(ValueError):
        ScramKeys.parse(text)


def test_secrets_do_not_show_in_a_repr():
    keys = ScramKeys.derive("pencil", b"salt", 4096)
    shown = repr(Credentials(plain="pencil", scram_sha256=keys))
    assert "pencil" not in shown
    assert repr(keys.stored_key) not in shown
