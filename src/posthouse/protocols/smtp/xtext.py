"""xtext, the form in which anything printable fits into a parameter (RFC 3461 §4), and its Unicode relative."""

import re

_HEX_PAIR = re.compile(rb"\+([0-9A-F]{2})")
_TO_ESCAPE = re.compile(r"[^!-*,-<>-~]")
_POINT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_POINT_TO_ESCAPE = re.compile(r"[^!-*,-<>-\[\]-~]")


def decode(value: bytes) -> str:
    """The text in xtext. ValueError where it is none, or not printable: it ends up in headers and reports."""
    if b"+" in value:
        if value.count(b"+") != len(_HEX_PAIR.findall(value)):
            raise ValueError("bad xtext")
        value = _HEX_PAIR.sub(lambda pair: bytes((int(pair[1], 16),)), value)
    text = value.decode("ascii")
    if not text.isprintable():
        raise ValueError("unprintable xtext")
    return text


def encode(text: str) -> str:
    """Printable ASCII as xtext."""
    return _TO_ESCAPE.sub(lambda character: f"+{ord(character[0]):02X}", text)


def decode_utf8(value: bytes) -> str:
    """The text in utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 §3). ValueError like ``decode``."""
    text = _POINT.sub(lambda point: chr(int(point[1], 16)), value.decode("utf-8"))
    if not text.isprintable():
        raise ValueError("unprintable address")
    return text


def encode_utf8(text: str) -> str:
    """Any text as utf-8-addr-xtext, which is ASCII."""
    return _POINT_TO_ESCAPE.sub(lambda character: f"\\x{{{ord(character[0]):02X}}}", text)
