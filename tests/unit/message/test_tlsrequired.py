"""message/tlsrequired.py"""

import pytest

from posthouse.message.tlsrequired import waives_tls


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"TLS-Required: No\r\n\r\nx", True),
        (b"From: a@b\r\ntls-required:no\r\nTo: c@d\r\n\r\n", True),
        (b"TLS-Required: No (please)\r\n\r\n", True),
        (b"TLS-Required: Yes\r\n\r\n", False),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n\r\n", False),
        (b"Subject: x\r\n TLS-Required: No\r\n\r\n", False),
        (b"Subject: x\r\n\r\nTLS-Required: No\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_one_field_in_the_header_that_says_no_counts(head: bytes, expected: bool) -> None:
    """RFC 8689 §3"""
    assert waives_tls(head) is expected
