"""The MIME structure as octet offsets."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.mime import MAX_DEPTH, US_ASCII, Part, scan


def crlf(text):
    return text.replace("\n", "\r\n").encode()


def body(data, part):
    return data[part.body_start : part.body_end]


def header(data, part):
    return data[part.header_start : part.body_start]


def below(part):
    """The parts directly within."""
    return part.children or ((part.message,) if part.message else ())


def walk(part):
    """All parts, each before those within it, without recursion."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += reversed(below(part))


def check_invariants(data, root):
    assert (root.header_start, root.body_end) == (0, len(data))
    for part in walk(root):
        assert 0 <= part.header_start <= part.body_start <= part.body_end <= len(data)
        assert part.lines == data.count(b"\n", part.body_start, part.body_end)
        inner = below(part)
        assert all(part.body_start <= each.header_start and each.body_end <= part.body_end for each in inner)
        assert all(before.body_end <= after.header_start for before, after in pairwise(inner))
        is_message = (part.type.lower(), part.subtype.lower()) == (b"message", b"rfc822")
        assert (part.type.lower() == b"multipart") == bool(part.children) == part.is_multipart
        assert is_message == (part.message is not None)
    assert Part.from_bytes(root.to_bytes()) == root


NESTED = crlf("""\
Subject: outer
Content-Type: multipart/mixed; boundary="b"

preamble
--b
Content-Type: text/plain; charset=utf-8
Content-ID: <one@x>
Content-Description: a
 folded one
Content-Transfer-Encoding: (comment) base64
Content-Disposition: attachment; filename*0*=UTF-8''a%20; filename*1="b.txt"
Content-Language: de, en
Content-Location: here
Content-MD5: abc==

hello
world

--b \t
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=b2

--b2

one
--b2
Content-Type: text/html

two
--b2--
epilogue of the inner one
--b--
epilogue
""")


def test_parts_have_exact_header_and_body_octets():
    """RFC 2046 §5.1.1: the line end before a delimiter belongs to the delimiter."""
    root = scan(NESTED)
    check_invariants(NESTED, root)
    assert body(NESTED, root.find("1")) == b"hello\r\nworld\r\n"
    assert header(NESTED, root.find("1")).endswith(b"Content-MD5: abc==\r\n\r\n")
    assert header(NESTED, root.find("2")) == b"Content-Type: message/rfc822\r\n\r\n"
    assert header(NESTED, root.find("2").message).startswith(b"Subject: inner\r\n")
    assert body(NESTED, root.find("2").message) == body(NESTED, root.find("2")).partition(b"\r\n\r\n")[2]
    assert body(NESTED, root.find("2")).endswith(b"--b2--\r\nepilogue of the inner one")
    assert body(NESTED, root.find("2.1")) == b"one"
    assert header(NESTED, root.find("2.1")) == b"\r\n"
    assert body(NESTED, root.find("2.2")) == b"two"
    assert body(NESTED, root).endswith(b"epilogue\r\n")
    assert root.find("1").lines == 2


def test_fields_are_kept_as_they_are_on_the_wire():
    """RFC 2231 parameters are for the client to put together."""
    part = scan(NESTED).find("1")
    assert (part.type, part.subtype, part.parameters) == (b"text", b"plain", ((b"charset", b"utf-8"),))
    assert (part.id, part.description, part.encoding, part.md5) == (b"<one@x>", b"a folded one", b"base64", b"abc==")
    assert part.disposition == b"attachment"
    assert part.disposition_parameters == ((b"filename*0*", b"UTF-8''a%20"), (b"filename*1", b"b.txt"))
    assert (part.language, part.location) == ((b"de", b"en"), b"here")


@pytest.mark.parametrize(
    ("path", "subtype"),
    [
        ("1", b"plain"), ("2", b"rfc822"), ("2.1", b"plain"), ("2.2", b"html"), ("1.1", None), ("3", None),
        ("0", None), ("2.3", None), ("2.2.1", None), ("", None), ("x", None), ("1.", None), ("-1", None),
        ("9" * 5000, None), ("²", None),
    ],
)  # fmt: skip
def test_a_section_number_names_a_part_or_nothing(path, subtype):
    """RFC 3501 §6.4.5."""
    part = scan(NESTED).find(path)
    assert (part.subtype if part else None) == subtype


def test_part_one_of_a_message_without_parts_is_its_body():
    """RFC 3501 §6.4.5: every message has at least one part number."""
    data = crlf("Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nSubject: x\n\ntext\n")
    root = scan(data)
    assert root.find("1") is root
    assert root.find("1.1") is root.message
    assert body(data, root.find("1.1.1")) == b"text\r\n"
    assert root.find("1.2") is None


@pytest.mark.parametrize(
    ("data", "structure"),
    [
        ("", "text/plain"),
        ("no header at all\n", "text/plain"),
        ("\nContent-Type: text/html\n", "text/plain"),
        ("Content-Type: nonsense\n\n", "text/plain"),
        ("Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n", "text/plain"),
        ("Content-Type: multipart/mixed; boundary=b\n\nno part\n", "multipart/mixed(text/plain)"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b--\n--b\n\nlate\n", "multipart/mixed(text/plain)"),
        ("Content-Type: multipart/mixed; boundary=b\n--b\n\nx\n", "multipart/mixed(text/plain)"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx", "multipart/mixed(text/plain)"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b", "multipart/mixed(text/plain)"),
        ("Content-Type: multipart/mixed boundary=b\n\n--b\n\n--b\n\n", "multipart/mixed(text/plain,text/plain)"),
        ("Content-Type: MULTIPART/Digest; BOUNDARY=b\n\n--b\n\nS: x\n\n--b\nContent-Type: text/html\n\n--b--\n",
         "multipart/digest(message/rfc822(text/plain),text/html)"),
        # The parent's delimiter ends whatever is open within it.
        (("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n"
         "--a\nContent-Type: text/html\n\ny\n--a--\n"), "multipart/mixed(multipart/mixed(text/plain),text/html)"),
        # A delimiter within a header section ends it.
        ("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n--a\nContent-Type: image/png\n",
         "multipart/mixed(text/html,image/png)"),
        # Boundaries that are prefixes of each other, in both orders.
        (("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/x; boundary=ab\n\n--ab\n\n1\n"
         "--ab\n\n2\n--ab--\n--a\nContent-Type: text/html\n\n3\n--a--\n"),
         "multipart/mixed(multipart/x(text/plain,text/plain),text/html)"),
        (("Content-Type: multipart/mixed; boundary=ab\n\n--ab\nContent-Type: multipart/x; boundary=a\n\n--a\n\n1\n"
         "--a--\n--ab\nContent-Type: text/html\n\n3\n--ab--\n"),
         "multipart/mixed(multipart/x(text/plain),text/html)"),
        ("Content-Type: multipart/mixed; boundary=a--\n\n--a--\nContent-Type: text/html\n\n1\n--a----\n",
         "multipart/mixed(text/html)"),
    ],
)  # fmt: skip
def test_broken_and_borderline_structures_are_read_as_documented(data, structure):
    def shape(part):
        inner = ",".join(shape(each) for each in below(part))
        return (part.type + b"/" + part.subtype).decode().lower() + (f"({inner})" if inner else "")

    for spelled in (data.encode(), crlf(data)):
        root = scan(spelled)
        check_invariants(spelled, root)
        assert shape(root) == structure


def test_what_has_no_readable_type_is_ascii_text():
    """RFC 2045 §5.2."""
    assert scan(b"\r\n").parameters == US_ASCII
    assert scan(b"Content-Type: text/html\r\n\r\n").parameters == ()


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        (b'text/plain; name="a;b\\"c"; x=y', ((b"name", b'a;b"c'), (b"x", b"y"))),
        (b"text/plain; charset = us-ascii (Plain text)", ((b"charset", b"us-ascii"),)),
        (b"text/plain (a;b=c); (d) e=f", ((b"e", b"f"),)),
        (b"text/plain; name=two words.pdf;; x=", ((b"name", b"two words.pdf"), (b"x", b""))),
        (b'text/plain; junk; name="open', ((b"name", b"open"),)),
        (b"text/plain;\r\n name=f\xfcr", ((b"name", b"f\xfcr"),)),
    ],
)
def test_parameters_are_read_though_senders_forget_to_quote(value, parameters):
    assert scan(b"Content-Type: " + value + b"\r\n\r\n").parameters == parameters


def test_containers_past_the_greatest_depth_are_not_taken_apart():
    nest = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%05d\r\n\r\n--b%05d\r\n" % (n, n) for n in range(10_000)
    )
    for data in (nest, b"Content-Type: message/rfc822\r\n\r\n" * 10_000):
        root = scan(data)
        check_invariants(data, root)
        parts = list(walk(root))
        assert len(parts) == MAX_DEPTH + 1
        assert (parts[-1].type, parts[-1].subtype, parts[-1].parameters) == (b"application", b"octet-stream", ())


def test_parts_past_the_greatest_number_are_the_last_one_s_text():
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50
    root = scan(data, max_parts=11)
    check_invariants(data, root)
    assert len(root.children) == 10
    assert body(data, root.children[-1]).endswith(b"--b\r\n\r\nx\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"--b\r\n".join([b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"] * 20_000),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 200_000,
        b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n" + b"\n--b" * 500_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + b"Content-Type: text/plain\r\n" * 100_000,
        b"X: y\r\n z\r\n" * 1_000_000,
        b"Content-Type: multipart/mixed; " + b"x=y;" * 1_000_000,
        b"Content-Type: " + b"(" * 1_000_000 + b"\r\n\r\n",
        b'Content-Disposition: x; y="' + b"\\" * 1_000_000,
    ],
    ids=["same boundary", "many parts", "near misses", "no end", "10 MB header", "parameters", "comments", "quotes"],
)  # fmt: skip
def test_hostile_messages_take_linear_time(data):
    check_invariants(data, scan(data))


PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"--a", b"--ab", b"--", b" ", b"text", b"--a\r\n", b"--ab--\r\n", b"--a--\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n", b"Content-Type: multipart/digest; boundary=ab\r\n\r\n",
        b'Content-Type: multipart/mixed; boundary="a" ', b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Disposition: inline; filename=x\r\n", b"Content-Language: en\n", b"\0", b"\xff",
        b"Content-Type: text/html\r\n", b"\r\n\r\n",
    ]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"".join), st.integers(1, 6), st.integers(1, 12))
def test_the_invariants_hold_for_any_octets(data, max_depth, max_parts):
    check_invariants(data, scan(data))
    check_invariants(data, scan(data, max_depth, max_parts))


def structure_of(parts, number=0):
    """Header, body and end offsets, in order, of the structure that another parser saw."""
    part = parts[number]
    kind = part["body"] if isinstance(part["body"], dict) else {}
    inner = [offsets for child in kind.get("Multipart", ()) for offsets in structure_of(parts, child)]
    if "parts" in kind.get("Message", ()):
        inner += structure_of(kind["Message"]["parts"])
    return [(part["offset_header"], part["offset_body"], part["offset_end"]), *inner]


# Where we differ on purpose: messages wrapped in base64 are not unwrapped; a delimiter is at a line's beginning only;
# and it ends a header section.
DIFFERENT = {"rfc/008", "thirdparty/005", "thirdparty/015"}


@pytest.mark.parametrize("folder", ["rfc", "thirdparty"])
def test_offsets_agree_with_those_of_another_parser(test_data, folder):
    seen = 0
    for expected in sorted((test_data / "mail-parser" / folder).glob("*.crlf.json")):
        name = expected.name.removesuffix(".crlf.json")
        if f"{folder}/{name}" in DIFFERENT:
            continue
        data = expected.with_name(f"{name}.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        offsets = [(part.header_start, part.body_start, part.body_end) for part in walk(scan(data))]
        assert offsets == structure_of(json.loads(expected.read_text())["parts"]), name
        seen += 1
    assert seen >= 8


def test_the_invariants_hold_for_real_and_malformed_messages(test_data):
    seen = 0
    for folder in ("bounces", "mail-parser", "mail-auth"):
        for path in (test_data / folder).rglob("*"):
            if path.is_file() and path.suffix in (".eml", ".msg", ".txt"):
                data = path.read_bytes()
                check_invariants(data, scan(data))
                seen += 1
    assert seen >= 800
