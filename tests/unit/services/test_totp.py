"""RFC 6238's test vectors, and what an authenticator is told."""

import base64

import pytest

from posthouse.services import totp

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238_appendix_b(seconds, code):
    """The last six of the eight digits that are given there."""
    assert totp.code(SECRET, seconds) == code


def test_one_step_before_and_after_is_accepted_and_nothing_else():
    """RFC 6238 §5.2."""
    code = totp.code(SECRET, 1_000_000)
    assert [totp.is_code(SECRET, code, 1_000_000 + 30 * steps) for steps in (-2, -1, 0, 1, 2)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert totp.is_code(SECRET, f"{code[:3]} {code[3:]}", 1_000_000)
    for wrong in ("", "é" * 6, code + "0", "\ud800"):
        assert not totp.is_code(SECRET, wrong, 1_000_000)


def test_an_authenticator_is_told_who_and_what():
    assert totp.uri("a&b@a.test", SECRET) == (
        f"otpauth://totp/Posthouse:a%26b@a.test?secret={SECRET}&issuer=Posthouse"
    )
