"""Ten thousand mails like those of a real mailbox, the same on every machine: from one seed.

About half are plain text, a third have an HTML alternative, the rest attachments or a forwarded message; a sixth
have encoded or raw 8-bit headers. One in a hundred has a rare word in its subject, another one in its body.
"""

import base64
import os
import random
import time

from bench.accounts import OWNER

SEED = 20_261_122
SUBJECT_WORD = "zephyrine"
BODY_WORD = "quicksilverish"
FIRST = 1_767_225_600
"""2026-01-01 00:00 UTC: the first message's time; one every 47 minutes, so that the last is of late November."""
STEP_SECONDS = 47 * 60
NEWLINE = b"\n"

VOCABULARY = (
    "account agenda answer archive arrival balance board branch budget building calendar change charge city client "
    "committee company contract copy corner cost council customer data deadline delivery department design detail "
    "document draft evening example factory figure floor folder garden group harbour harvest history house idea "
    "invoice island journey kitchen language letter library list machine mailbox market meeting message minute month "
    "morning network notice number office order package page paper payment people picture plan postman price project "
    "question railway reason receipt record region reply report request river room route schedule season section "
    "server service share signature station street summer supplier system table team ticket town travel update "
    "valley village visitor water weather week window winter workshop writer year"
)
WORDS = tuple(VOCABULARY.split())
NAMES = ("Ada", "Bruno", "Chloe", "Dario", "Elif", "Fritz", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Lars")
FAMILIES = ("Abel", "Brandt", "Costa", "Duval", "Eriksen", "Fuchs", "Galli", "Horvat", "Ivers", "Jansen", "Keller")
FOREIGN = ("Jörg Müßig", "Zoé Lefèvre", "Łukasz Żak", "Ñandú Peña")
DOMAINS = ("example.com", "example.net", "example.org", "mail.example", "news.example")


class Corpus:
    """Message number ``n`` is ``message(n)``, LF line ends, always the same octets."""

    def __init__(self) -> None:
        source = random.Random(SEED)
        self._lines = [_line(source) for _ in range(4_000)]
        self._noise = source.randbytes(1 << 18)

    def message(self, number: int) -> bytes:
        chance = random.Random(SEED * 1_000_003 + number)
        text = self._prose(chance, min(14_000, int(chance.lognormvariate(7.2, 0.8))))
        if number % 100 == 41:
            text += f"\nSomething {BODY_WORD} stands in this one.\n"
        kind = chance.random()
        if kind < 0.48:
            content = self._plain(chance, text)
        elif kind < 0.80:
            content = self._alternative(chance, text, number)
        elif kind < 0.96:
            content = self._attachment(chance, text, number)
        else:
            content = self._forwarded(chance, text, number)
        return _header(chance, number) + content

    def _prose(self, chance: random.Random, size: int) -> str:
        count = max(3, size // 66)
        start = chance.randrange(len(self._lines) - count)
        return "\n".join(self._lines[start : start + count]) + "\n"

    def _plain(self, chance: random.Random, text: str) -> bytes:
        if chance.random() < 0.25:
            return _part("text/plain; charset=utf-8", "8bit", (text + "Grüße, à bientôt\n").encode())
        return _part("text/plain; charset=us-ascii", "7bit", text.encode())

    def _alternative(self, chance: random.Random, text: str, number: int) -> bytes:
        paragraphs = text.splitlines() + self._prose(chance, chance.randrange(300, 6_000)).splitlines()
        html = "".join(f'<p class=3D"m">{paragraph}</p>\n' for paragraph in paragraphs)
        parts = [
            _part("text/plain; charset=utf-8", "7bit", text.encode()),
            _part("text/html; charset=utf-8", "quoted-printable", f"<html><body>\n{html}</body></html>\n".encode()),
        ]
        return _multipart("alternative", f"=_alt_{number}", parts)

    def _attachment(self, chance: random.Random, text: str, number: int) -> bytes:
        size = min(45_000, int(chance.lognormvariate(9.2, 0.7)))
        start = chance.randrange(len(self._noise) - size)
        kind = chance.choice((f"application/pdf; name=invoice{number}.pdf", "image/png", "application/octet-stream"))
        extra = f'Content-Disposition: attachment; filename="paper {number}.bin"\n'
        parts = [
            _part("text/plain; charset=utf-8", "7bit", text.encode()),
            _part(kind, "base64", base64.encodebytes(self._noise[start : start + size]), extra),
        ]
        return _multipart("mixed", f"=_mix_{number}", parts)

    def _forwarded(self, chance: random.Random, text: str, number: int) -> bytes:
        inner = _header(chance, number) + self._alternative(chance, text, number + 1_000_000)
        parts = [
            _part("text/plain; charset=us-ascii", "7bit", b"See below.\n"),
            _part("message/rfc822", "8bit", inner, "Content-Disposition: inline\n"),
        ]
        return _multipart("mixed", f"=_fwd_{number}", parts)


def moment(number: int) -> int:
    """When message ``number`` arrived, in seconds since the epoch."""
    return FIRST + number * STEP_SECONDS


def make_maildir(corpus: Corpus, path: str, count: int) -> None:
    """A Maildir of the first ``count`` messages, all in ``cur/``; two in three are read."""
    make_empty_maildir(path)
    for number in range(count):
        data = corpus.message(number)
        sizes = f"S={len(data)},W={len(data) + data.count(NEWLINE)}"
        flags = "S" if number % 3 else ""
        name = os.path.join(path, "cur", f"{moment(number)}.M{number:06}P1.bench,{sizes}:2,{flags}")
        with open(name, "wb") as file:
            file.write(data)
        os.utime(name, (moment(number), moment(number)))
        _give_away(name)


def link_maildir(source: str, path: str, count: int) -> None:
    """A Maildir of the first ``count`` messages of another one: the same files under the same names."""
    make_empty_maildir(path)
    for name in sorted(os.listdir(os.path.join(source, "cur")))[:count]:
        os.link(os.path.join(source, "cur", name), os.path.join(path, "cur", name))


def make_empty_maildir(path: str) -> None:
    parent = os.path.dirname(path.rstrip("/"))
    if not os.path.isdir(parent):
        os.makedirs(parent)
        _give_away(parent)
    for directory in (path, *(os.path.join(path, name) for name in ("cur", "new", "tmp"))):
        os.mkdir(directory, 0o700)
        _give_away(directory)


def _give_away(path: str) -> None:
    if os.geteuid() == 0:
        os.chown(path, OWNER, OWNER)


def _line(source: random.Random) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < 62:
        words.append(source.choice(WORDS))
    return " ".join(words).capitalize()


def _header(chance: random.Random, number: int) -> bytes:
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(moment(number) - chance.randrange(600)))
    lines = [
        f"Received: from mx{number % 7}.example.net (mx{number % 7}.example.net [192.0.2.{number % 250 + 1}])",
        f"\tby mail.bench.test with ESMTPS id {chance.getrandbits(40):010x}",
        f"\tfor <big@bench.test>; {when}",
        f"From: {_person(chance)}",
        "To: " + ",\n\t".join(_person(chance) for _ in range(chance.choice((1, 1, 1, 2, 4)))),
    ]
    if chance.random() < 0.2:
        lines.append(f"Cc: {_person(chance)}")
    lines += [f"Subject: {_subject(chance, number)}", f"Date: {when}"]
    lines.append(f"Message-ID: <{number}.{chance.getrandbits(48):x}@{chance.choice(DOMAINS)}>")
    if number and chance.random() < 0.35:
        before = f"<{chance.randrange(number)}.answered@example.com>"
        lines += [f"In-Reply-To: {before}", f"References: {before}"]
    if chance.random() < 0.25:
        lines += ["List-Id: A list <list.example>", "List-Unsubscribe: <mailto:leave@list.example>"]
    lines.append("MIME-Version: 1.0")
    return ("\n".join(lines) + "\n").encode()


def _person(chance: random.Random) -> str:
    domain = chance.choice(DOMAINS)
    if chance.random() < 0.12:
        name = chance.choice(FOREIGN)
        encoded = base64.b64encode(name.encode()).decode()
        return f"=?utf-8?B?{encoded}?= <post@{domain}>"
    first, last = chance.choice(NAMES), chance.choice(FAMILIES)
    return f"{first} {last} <{first}.{last}@{domain}>".replace(f"<{first}", f"<{first.lower()}")


def _subject(chance: random.Random, number: int) -> str:
    subject = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(2, 9))).capitalize()
    if number % 100 == 13:
        subject += f" {SUBJECT_WORD}"
    elif (odd := chance.random()) < 0.06:
        subject = f"=?utf-8?Q?Pr=C3=BCfung=3A_{subject.replace(' ', '_')}?="
    elif odd < 0.09:
        subject = f"Größe: {subject}"
    return f"Re: {subject}" if chance.random() < 0.3 else subject


def _part(kind: str, encoding: str, content: bytes, extra: str = "") -> bytes:
    return f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n{extra}\n".encode() + content


def _multipart(kind: str, boundary: str, parts: list[bytes]) -> bytes:
    line = b"--" + boundary.encode()
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n'.encode()
    return head + b"".join(line + b"\n" + part + b"\n" for part in parts) + line + b"--\n"
