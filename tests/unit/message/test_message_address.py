"""Addresses of SMTP paths."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.address import is_domain, lookup_key, parse_path, split, split_extension


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (b"user@example.test", "user@example.test"),
        ("User@EXAMPLE.Test", "User@example.test"),
        ('"user"@example.test', "user@example.test"),
        ('"us\\er"@example.test', "user@example.test"),
        ('"two words"@example.test', '"two words"@example.test'),
        ('"a\\"b\\\\c"@example.test', '"a\\"b\\\\c"@example.test'),
        ('"a@b"@example.test', '"a@b"@example.test'),
        ("@one.test,@two.test:user@example.test", "user@example.test"),
        ("Postmaster", "Postmaster"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[IPv6:2001:DB8:0::1]", "user@[ipv6:2001:db8::1]"),
        ("user@localhost", "user@localhost"),
        ("user@my_host.example.test", "user@my_host.example.test"),
        ("!#$%&'*+-/=?^_`{|}~@example.test", "!#$%&'*+-/=?^_`{|}~@example.test"),
    ],
)
def test_a_valid_path_gives_its_address(path, address):
    """RFC 5321 §4.1.2, §4.1.3, appendix C."""
    assert parse_path(path) == address
    assert parse_path(address) == address


@pytest.mark.parametrize(
    "path",
    [
        "",
        "user",
        "user@",
        "@example.test",
        "a..b@example.test",
        ".a@example.test",
        "a.@example.test",
        "a b@example.test",
        '"open@example.test',
        '"a"b@example.test',
        "user@-example.test",
        "user@example-.test",
        "user@example..test",
        "user@example.test.",
        "user@192.0.2.1",
        "user@[192.0.2.256]",
        "user@[IPv6:fe80::1%eth0]",
        "user@[192.0.2.1",
        "user@exa mple.test",
        "user@example.test\r\nRCPT TO:<x@y>",
        "us\0er@example.test",
        "üser@example.test",
        "a" * 65 + "@example.test",
        "user@" + "a" * 64 + ".test",
        "a@" + "b." * 130 + "test",
    ],
)
def test_an_invalid_path_is_refused_with_a_short_reason(path):
    """RFC 5321 §4.1.2, §4.5.3.1."""
    with pytest.raises(ValueError, match=r"^[a-zA-Z -]{5,40}$"):
        parse_path(path)


def test_only_the_reverse_path_may_be_empty_or_have_a_long_local_part():
    """RFC 5321 §4.5.5; VERP and SRS addresses are longer than 64 octets."""
    verp = "list-bounces+" + "x" * 80 + "@example.test"
    assert parse_path("", allow_empty=True) == ""
    assert parse_path(verp, allow_empty=True) == verp


def test_utf8_is_allowed_where_it_was_asked_for_and_the_domain_becomes_ascii():
    """RFC 6531 §3.3."""
    assert parse_path("jörg@Bücher.example".encode(), utf8=True) == "jörg@xn--bcher-kva.example"
    with pytest.raises(ValueError, match="not ASCII"):
        parse_path("jörg@bücher.example")
    with pytest.raises(ValueError, match="not UTF-8"):
        parse_path(b"j\xf6rg@example.test", utf8=True)
    with pytest.raises(ValueError, match="bad domain"):
        parse_path("user@\u2028.example", utf8=True)


def test_the_lookup_key_is_lower_case_with_an_ascii_domain():
    assert lookup_key("Jörg@BÜCHER.example") == "jörg@xn--bcher-kva.example"
    assert lookup_key("User@Example.TEST") == "user@example.test"
    assert lookup_key("@Example.TEST") == "@example.test"
    assert lookup_key("Root") == "root"
    assert lookup_key("a@\u2028ü") == "a@\u2028ü"


def test_an_extension_is_what_follows_the_first_delimiter():
    assert split_extension("user+a+b", "+") == ("user", "a+b")
    assert split_extension("user+", "+") == ("user", "")
    assert split_extension("user", "+") == ("user", None)
    assert split_extension("+user", "+") == ("+user", None)
    assert split_extension("user+a", "") == ("user+a", None)
    assert split_extension("MAILER-DAEMON", "-") == ("MAILER-DAEMON", None)
    assert split_extension('"a+b"', "+") == ('"a+b"', None)


def test_an_address_is_split_at_its_last_at_sign():
    assert split('"a@b"@example.test') == ('"a@b"', "example.test")
    assert split("user") == ("user", "")
    assert split("@example.test") == ("", "example.test")


def test_a_domain_is_at_most_255_octets():
    longest = ".".join(["a" * 63] * 3 + ["b" * 63])
    assert is_domain(longest)
    assert not is_domain("c." + longest)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80) | st.from_regex(r'[a-z."\\@\[\]: ]{1,20}@[a-z0-9.:\[\]-]{1,20}', fullmatch=True))
def test_whatever_is_accepted_parses_to_itself(path):
    try:
        address = parse_path(path, allow_empty=True, utf8=True)
    except ValueError:
        return
    assert parse_path(address, allow_empty=True, utf8=True) == address
    assert "\r" not in address
    assert "\n" not in address


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_octets_of_any_kind_are_an_address_or_a_value_error(path):
    try:
        parse_path(path, utf8=True)
    except ValueError:
        pass
