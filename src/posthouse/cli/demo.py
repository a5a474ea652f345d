"""``posthouse serve --demo``: an example domain with two accounts, and what to type to try it.

Everything listens on high ports of 127.0.0.1. The passwords are random, made at the first start and kept in
``demo.json`` in the data directory so that later starts can show them again; nobody else's are kept like that.
"""

import asyncio
import dataclasses
import json
import os
import secrets

from posthouse.config.loader import PORTS, UNPRIVILEGED
from posthouse.config.settings import Listen, Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.runtime.listener import Listener
from posthouse.services import accounts, domains

DOMAIN = "example.test"
USERS = ("alice", "bob")
DEMO = Actor("demo")


def loopback(settings: Settings) -> Settings:
    """The settings with every service on its high port of 127.0.0.1."""
    listen = Listen(**{name: (f"127.0.0.1:{UNPRIVILEGED[port]}",) for name, port in PORTS.items()})
    return dataclasses.replace(settings, listen=listen)


def make_accounts(settings: Settings) -> None:
    """The domain and its accounts, at the first start."""
    if not os.path.exists(_notes(settings)):
        asyncio.run(_make(settings))


async def _make(settings: Settings) -> None:
    directory = Directory(settings)
    await directory.open()
    try:
        passwords = {f"{user}@{DOMAIN}": secrets.token_hex(6) for user in USERS}
        if not await directory.is_hosted(DOMAIN):
            await domains.add(directory, DOMAIN, actor=DEMO)
        for address, password in passwords.items():
            if await directory.account(address) is None:
                await accounts.add(directory, settings, address, password, actor=DEMO)
            else:
                await accounts.set_password(directory, address, password, actor=DEMO)
    finally:
        await directory.close()
    descriptor = os.open(_notes(settings), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(passwords, file)


def show(settings: Settings, listeners: list[Listener]) -> None:
    """Ports, logins and the lines to try, on standard output."""
    with open(_notes(settings)) as file:
        passwords: dict[str, str] = json.load(file)
    ports = {listener.service: listener.endpoint.port for listener in listeners}
    (alice, secret), (bob, bobs) = passwords.items()
    smtp, submission = ports["smtp"], ports["submission"]
    print(
        f"""
Posthouse serves {DOMAIN} on 127.0.0.1; everything is kept in {settings.data_dir}

  SMTP {smtp}   LMTP {ports["lmtp"]}   submission {submission} (STARTTLS), {ports["submissions"]} (TLS)
  IMAP {ports["imap"]} (STARTTLS), {ports["imaps"]} (TLS)   POP3 {ports["pop3"]} (STARTTLS), {ports["pop3s"]} (TLS)

  {alice:<20} password  {secret}
  {bob:<20} password  {bobs}

Send alice a mail, as another mail server would (either line):
  swaks --server 127.0.0.1:{smtp} --from you@example.org --to {alice}
  printf 'From: you@example.org\\nSubject: hello\\n\\nHello Alice!\\n' | \\
    curl -s smtp://127.0.0.1:{smtp} --mail-from you@example.org --mail-rcpt {alice} --crlf -T -

Read it:
  curl -s 'imap://127.0.0.1:{ports["imap"]}/INBOX;MAILINDEX=1' -u {alice}:{secret}

Write to bob as alice, by submission:
  swaks --server 127.0.0.1:{submission} -tls --auth PLAIN -au {alice} -ap {secret} \\
    --from {alice} --to {bob}

Ctrl-C stops it.
""",
        flush=True,
    )


def _notes(settings: Settings) -> str:
    return settings.path("demo.json")
