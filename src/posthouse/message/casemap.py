"""i;unicode-casemap (RFC 5051): texts that differ in case, or only in how Unicode composes them, become equal.

Each character is put into its titlecase form and then decomposed. Results compare by their UTF-8 octets, and contain
each other as substrings where the texts do.

Invariant: what comes out can be encoded in UTF-8.
"""

import unicodedata

KEPT = 20_000
"""How many characters are remembered; there are languages with more, but few mails with them."""


class _Mapping(dict[int, str]):
    def __missing__(self, code: int) -> str:
        char = chr(code)
        title = char.title()  # more than one character: a special casing, which is not what is asked for
        mapped = unicodedata.normalize("NFKD", title if len(title) == 1 else char)
        if 0xD800 <= code < 0xE000:
            mapped = "\N{REPLACEMENT CHARACTER}"
        if len(self) < KEPT:
            self[code] = mapped
        return mapped


_mapping = _Mapping()


def casemap(text: str) -> str:
    """The text as it is compared and searched."""
    return text.upper() if text.isascii() else text.translate(_mapping)
