"""ENVELOPE and BODYSTRUCTURE, as RFC 3501's examples show them, and of broken mail."""

from posthouse.message.mime import scan
from posthouse.protocols.imap.render import Completion, flag_list, literal, nstring, string
from posthouse.protocols.imap.structure import bodystructure_bytes, envelope_bytes

RFC_HEADER = b"""\
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

""".replace(b"\n", b"\r\n")


def structure(message: bytes, extended: bool = True) -> bytes:
    return bodystructure_bytes(scan(message), extended, lambda start, end: message[start:end])


def test_an_envelope_is_the_one_of_the_rfcs_sample_session():
    """RFC 3501 §8."""
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert envelope_bytes(RFC_HEADER) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" '
        b'"IMAP4rev1 WG mtg summary and minutes" '
        + gray + b" " + gray + b" " + gray + b" "
        b'((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.edu>")'
    )  # fmt: skip


def test_a_group_has_its_marks_in_an_envelope():
    """RFC 3501 §7.4.2."""
    envelope = envelope_bytes(b"To: friends: a@b.example;, c@d.example\r\n\r\n")
    assert b'((NIL NIL "friends" NIL)(NIL NIL "a" "b.example")(NIL NIL NIL NIL)(NIL NIL "c" "d.example"))' in envelope


def test_an_empty_header_gives_a_whole_envelope():
    assert envelope_bytes(b"") == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


def test_an_empty_subject_is_not_a_missing_one():
    assert envelope_bytes(b"Subject:\r\n\r\n").startswith(b'(NIL "" NIL')


def test_an_address_without_a_domain_is_not_a_group():
    assert b'(NIL NIL "root" "")' in envelope_bytes(b"From: root\r\n\r\n")


def test_header_text_cannot_break_out_of_an_envelope():
    envelope = envelope_bytes(b'Subject: a" "b\\ \xe4 c\r\n\r\n')
    assert envelope == b'(NIL {10}\r\na" "b\\ \xe4 c NIL NIL NIL NIL NIL NIL NIL NIL)'


def test_a_text_part_has_its_octets_and_lines():
    """RFC 3501 §8: BODY of the sample session's message."""
    message = RFC_HEADER + b"x" * 76 + b"\r\n" + b"y\r\n"
    assert structure(message, extended=False) == (b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7bit" 81 2)')


def test_a_multipart_has_its_parts_before_its_subtype():
    """RFC 3501 §7.4.2."""
    message = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/html\r\nContent-Language: de, en\r\n\r\n<p>\r\n"
        b"--b\r\nContent-Type: image/gif; name=x.gif\r\nContent-ID: <1>\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=x.gif\r\n\r\nR0lG\r\n--b--\r\n"
    )
    assert structure(message) == (
        b'(("text" "html" NIL NIL NIL "7bit" 3 0 NIL NIL ("de" "en") NIL)'
        b'("image" "gif" ("name" "x.gif") "<1>" NIL "base64" 4 NIL ("attachment" ("filename" "x.gif")) NIL NIL)'
        b' "mixed" ("boundary" "b") NIL NIL NIL)'
    )
    assert structure(message, extended=False) == (
        b'(("text" "html" NIL NIL NIL "7bit" 3 0)("image" "gif" ("name" "x.gif") "<1>" NIL "base64" 4) "mixed")'
    )


def test_an_embedded_message_has_its_envelope_and_structure():
    inner = b"Subject: inner\r\n\r\none\r\ntwo\r\n"
    message = b"Content-Type: message/rfc822\r\n\r\n" + inner
    assert structure(message, extended=False) == (
        b'("message" "rfc822" NIL NIL NIL "7bit" 28 (NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)'
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2) 4)'
    )


def test_a_message_nested_ten_thousand_deep_still_has_a_structure():
    """Bounded depth: what lies deeper is an attachment."""
    message = b"Content-Type: message/rfc822\r\n\r\n" * 10_000
    shown = structure(message)
    assert shown.count(b"rfc822") <= 101
    assert shown.count(b"(") == shown.count(b")")


def test_strings_are_quoted_where_they_can_be():
    assert string(b'a"\\') == b'"a\\"\\\\"'
    assert string(b"caf\xc3\xa9") == b"{5}\r\ncaf\xc3\xa9"
    assert string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert nstring(None) == b"NIL"


def test_nul_never_goes_out_and_counts_stay_true():
    """RFC 3501 §9, CHAR8."""
    assert literal(b"a\0b") == b"{3}\r\na\x80b"
    assert string(b"a\0b") == b'"ab"'


def test_flags_have_one_order():
    assert flag_list(frozenset({"\\Seen", "$x", "\\Answered"})) == b"($x \\Answered \\Seen)"


def test_a_completion_stays_on_its_line():
    assert Completion("NO", "a\r\n* BYE\xe4", "X").to_bytes() == b"NO [X] a??* BYE?"
