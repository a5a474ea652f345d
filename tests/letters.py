"""Messages that are made up: well-formed, odd and broken, each the same for the same random numbers."""

import base64
import quopri
import random

WORDS = ("hello", "returned", "Größe", "report", "undelivered", "the", "meeting", "日本語", "invoice", "re", "Ω")
TOLD = ("lantern", "Zypern", "harbour", "Übung", "quilt", "gravel", "黒い猫", "Ω")
"""What bodies consist of, and headers don't."""
_NAMES = ("Anna Müller", "bob", "Postmaster", "O'Neil, Pat", "root", "=?utf-8?q?J=C3=B6rg?=", "")
_HOSTS = ("example.org", "example.net", "mail.example.com")
_TYPES = ("text/plain", "text/html; charset=utf-8", "TEXT/Plain; charset=iso-8859-1; format=flowed",
          "application/octet-stream", 'image/png; name="a b.png"', "application/pdf; name=x.pdf")  # fmt: skip
_ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64", "binary", "")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATES = ("{day}, {d} Nov 2026 {h:02}:{m:02}:00 +0000", "{d} Nov 2026 {h:02}:{m:02} -0700",
          "{day}, {d} Nov 2026 {h:02}:{m:02}:59 +0530")  # fmt: skip


class Letters:
    """What comes out depends on ``rng`` alone."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._ids: list[str] = []

    def message(self) -> bytes:
        """One message with CRLF line ends, mostly as it should be."""
        kind = self.rng.random()
        head = self._head()
        if kind < 0.35:
            return head + b"\r\n" + self.text()
        if kind < 0.9:
            return head + b"MIME-Version: 1.0\r\n" + self.entity(0)
        return head + self.broken_entity()

    def text(self, lines: int = 6) -> bytes:
        rows = (" ".join(self.words(8, TOLD)) for _ in range(self.rng.randrange(lines + 1)))
        ending = self.rng.choice(("", "\r\n", "\r\n\r\n", "no line end"))
        return ("".join(f"{row}\r\n" for row in rows) + ending).encode()

    def words(self, most: int, of: tuple[str, ...] = WORDS) -> list[str]:
        return [self.rng.choice(of) for _ in range(self.rng.randrange(1, most + 1))]

    def entity(self, depth: int) -> bytes:
        """A part's header section after what its parent wants in it, the blank line and the body."""
        kind = self.rng.random()
        if depth < 4 and kind < 0.4:
            return self._multipart(depth)
        if depth < 4 and kind < 0.5:
            return self._fields("message/rfc822") + b"\r\n" + self._head() + self.entity(depth + 1)
        return self._leaf()

    def broken_entity(self) -> bytes:
        """What mail programs should not send, and do."""
        rng = self.rng
        boundary = rng.choice(("b", "=_x", "a b"))
        parts = b"".join(
            rng.choice((b"--%b\r\n", b"--%b--\r\n", b"--%bx\r\n", b"-- %b\r\n", b"--%b  \r\n")) % boundary.encode()
            + rng.choice((b"", b"\r\n", b"Content-Type: text/plain\r\n\r\n", b"Content-Type: text/html\r\n\r\n"))
            + self.text(2)
            + rng.choice((b"", b"\r\n"))
            for _ in range(rng.randrange(4))
        )
        kind = rng.choice(("multipart/mixed", "multipart/related", "multipart/alternative", "message/rfc822"))
        return f'Content-Type: {kind}; boundary="{boundary}"\r\n\r\n'.encode() + parts

    def _multipart(self, depth: int) -> bytes:
        rng = self.rng
        boundary = f"=_{depth}_{rng.randrange(10**6)}"
        kind = rng.choice(("mixed", "alternative", "related", "digest", "signed"))
        body = rng.choice((b"", b"This is a multipart message.\r\n", b"\r\n"))
        for _ in range(rng.randrange(1, 4)):
            body += f"--{boundary}\r\n".encode() + self.entity(depth + 1) + b"\r\n"
        ending = rng.choice((f"--{boundary}--\r\n", f"--{boundary}--", f"--{boundary}--\r\nepilogue\r\n"))
        return self._fields(f'multipart/{kind}; boundary="{boundary}"') + b"\r\n" + body + ending.encode()

    def _leaf(self) -> bytes:
        rng = self.rng
        kind, encoding = rng.choice(_TYPES), rng.choice(_ENCODINGS)
        is_text = kind.lower().startswith("text")
        fields = self._fields(kind)
        if encoding:
            fields += f"Content-Transfer-Encoding: {encoding}\r\n".encode()
        if encoding == "base64" and not is_text:
            return fields + b"\r\n" + base64.encodebytes(rng.randbytes(rng.randrange(200))).replace(b"\n", b"\r\n")
        if not is_text:  # some servers search text only
            return fields + b"\r\n" + b"0815 4711\r\n" * self.rng.randrange(4)
        text = self.text()
        if encoding == "base64":
            text = base64.encodebytes(text).replace(b"\n", b"\r\n")
        elif encoding == "quoted-printable":
            text = quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        return fields + b"\r\n" + text

    def _fields(self, kind: str) -> bytes:
        rng = self.rng
        fields = [f"Content-Type: {kind}"]
        if rng.random() < 0.2:
            fields.append('Content-Disposition: attachment; filename="a\\"b.txt"; size=3')
        if rng.random() < 0.1:
            fields.append("Content-ID: <part@example.org>")
        if rng.random() < 0.1:
            fields.append("Content-Description: what it is")
        if rng.random() < 0.1:
            fields.append(f"Content-Language: {rng.choice(('de', 'en, fr'))}")
        if rng.random() < 0.1:
            fields.append("Content-Location: http://example.org/x")
        return "".join(f"{field}\r\n" for field in fields).encode()

    def _head(self) -> bytes:
        rng = self.rng
        day, hour = rng.randrange(1, 29), rng.randrange(24)
        date = rng.choice(_DATES).format(day=_DAYS[(day + 5) % 7], d=day, h=hour, m=rng.randrange(60))
        subject = rng.choice(("", "Re: ", "Fwd: ", "[list] ")) + " ".join(self.words(5))
        fields = [f"From: {self._address()}", f"To: {', '.join(self._address() for _ in range(rng.randrange(1, 4)))}"]
        fields += [f"Date: {date}", f"Subject: {_encoded(subject, rng)}"]
        fields.append(f"Message-ID: {self._id()}")
        if len(self._ids) > 1 and rng.random() < 0.5:
            fields.append(f"References: {' '.join(rng.sample(self._ids[:-1], min(3, len(self._ids) - 1)))}")
        elif len(self._ids) > 1 and rng.random() < 0.3:
            fields.append(f"In-Reply-To: {rng.choice(self._ids[:-1])}")
        for name in ("Cc", "Bcc", "Sender", "Reply-To"):
            if rng.random() < 0.2:
                fields.append(f"{name}: {self._address()}")
        if rng.random() < 0.3:
            fields.append(f"X-Long: {' '.join(self.words(5))}\r\n\tfolded {' '.join(self.words(3))}")
        rng.shuffle(fields)
        return "".join(f"{field}\r\n" for field in fields).encode()

    def _address(self) -> str:
        rng = self.rng
        name, box = rng.choice(_NAMES), f"{rng.choice(('anna', 'bob', 'c.d'))}@{rng.choice(_HOSTS)}"
        if not name:
            return rng.choice((box, f"<{box}>", f"{box} (a comment)"))
        return f'"{name}" <{box}>' if "," in name or rng.random() < 0.3 else f"{name} <{box}>"

    def _id(self) -> str:
        self._ids.append(f"<{self.rng.randrange(10**9)}@example.org>")
        return self._ids[-1]


def _encoded(text: str, rng: random.Random) -> str:
    if text.isascii() or rng.random() < 0.3:
        return text
    hexed = "".join(f"={octet:02X}" for octet in text.encode())
    return f"=?utf-8?q?{hexed}?="
