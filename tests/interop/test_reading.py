"""curl, fetchmail, mutt and Python's clients read what was delivered, and change it."""

import imaplib
import os
import poplib

import pytest
from imapclient import IMAPClient
from tests.interop.house import PASSWORD, mail, run, trusting, until, without_trace

HOST = "127.0.0.1"
FIRST, SECOND = mail("first", "one\r\n.dot\r\n"), mail("second", "tw\u00f6\r\n")


@pytest.fixture
def alice(account, house):
    """An account with two messages."""
    address = account("alice")
    house.deliver(address, FIRST, SECOND)
    return address


@pytest.fixture
def curl(need, house, alice):
    """curl as alice; exactly what it printed."""
    program = need("curl")

    def read(scheme: str, path: str, *options: object) -> bytes:
        url = f"{scheme}://{HOST}:{house.ports[options[0] if options else scheme]}{path}"
        return run(program, "-q", "-sS", "-k", *options[1:], url, "-u", f"{alice}:{PASSWORD}").encode()

    return read


@pytest.mark.parametrize(("scheme", "options"), [("imap", []), ("imap", ["--ssl-reqd"]), ("imaps", [])])
def test_curl_reads_over_imap(curl, scheme, options):
    assert without_trace(curl(scheme, "/INBOX;MAILINDEX=1", scheme, *options)) == FIRST
    assert without_trace(curl(scheme, "/INBOX;UID=2", scheme, *options)) == SECOND
    assert curl(scheme, "/INBOX?SUBJECT%20second", scheme, *options) == b"* SEARCH 2\r\n"
    assert b'"." INBOX\r\n' in curl(scheme, "/", scheme, *options)


def test_curl_reads_parts_and_sets_flags(curl, house, alice):
    assert curl("imap", "/INBOX;UID=1;SECTION=TEXT") == b"one\r\n.dot\r\n"
    curl("imap", "/INBOX", "imap", "-X", "STORE 2 +FLAGS.SILENT (\\Flagged $Label1)")
    assert house.flags(alice) == [{"\\Seen"}, {"\\Flagged", "$Label1"}]


def test_curl_appends(curl, house, alice, tmp_path):
    (tmp_path / "message").write_bytes(FIRST)
    curl("imap", "", "imap", "-X", "CREATE Drafts")
    curl("imap", "/Drafts", "imap", "-T", tmp_path / "message")
    assert house.only(alice, "Drafts") == FIRST


@pytest.mark.parametrize(("scheme", "options"), [("pop3", []), ("pop3", ["--ssl-reqd"]), ("pop3s", [])])
def test_curl_reads_over_pop3(curl, house, alice, scheme, options):
    first, second = house.messages(alice)
    assert curl(scheme, "/", scheme, *options) == f"1 {len(first)}\r\n2 {len(second)}\r\n".encode()
    assert curl(scheme, "/1", scheme, *options) == first
    assert curl(scheme, "/2", scheme, *options) == second
    assert curl(scheme, "/", scheme, *options, "-X", "TOP 1 0") == first.removesuffix(b"one\r\n.dot\r\n")


def test_curl_deletes_over_pop3(curl, house, alice):
    curl("pop3", "/1", "pop3", "-X", "DELE", "-I")
    assert without_trace(house.only(alice)) == SECOND


def test_poplib_reads_and_deletes(house, alice):
    """Every way to log in that poplib has."""
    identifiers = []
    for login in ("user", "again", "tls"):
        session = poplib.POP3(HOST, house.ports["pop3"], timeout=30)
        if login == "tls":
            session.stls(context=trusting())
        session.user(alice)
        session.pass_(PASSWORD)
        identifiers.append(session.uidl()[1])
        assert without_trace(b"".join(line + b"\r\n" for line in session.retr(2)[1])) == SECOND
        session.quit()
    assert identifiers[0] == identifiers[1] == identifiers[2]
    session = poplib.POP3_SSL(HOST, house.ports["pop3s"], timeout=30, context=trusting())
    session.user(alice)
    session.pass_(PASSWORD)
    session.dele(1)
    session.rset()
    session.dele(2)
    session.quit()
    assert without_trace(house.only(alice)) == FIRST


def test_imapclient_works_a_mailbox(house, alice):
    with IMAPClient(HOST, house.ports["imaps"], ssl_context=trusting(), timeout=30) as client:
        client.login(alice, PASSWORD)
        assert {b"IDLE", b"UIDPLUS", b"MOVE", b"NAMESPACE", b"SPECIAL-USE"} <= set(client.capabilities())
        assert client.namespace() == ((("", "."),), (("Shared/", "/"),), None)
        client.create_folder("Entwürfe.Öfter & mehr")
        client.select_folder("INBOX")
        assert client.search(["SUBJECT", "second"]) == [2]
        client.move([1], "Entwürfe.Öfter & mehr")
        client.copy([2], "Entwürfe.Öfter & mehr")
        client.select_folder("Entwürfe.Öfter & mehr")
        items = ["ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "INTERNALDATE", "BODY[]"]
        entries = client.fetch(client.search(), items).values()
        assert [entry[b"ENVELOPE"].subject for entry in entries] == [b"first", b"second"]
        assert [len(entry[b"BODY[]"]) for entry in entries] == [entry[b"RFC822.SIZE"] for entry in entries]
        client.unselect_folder()
        client.rename_folder("Entwürfe", "Drafts")
        assert [name for _, _, name in client.list_folders()] == ["INBOX", "Drafts", "Drafts.Öfter & mehr"]
        client.delete_folder("Drafts.Öfter & mehr")
    assert without_trace(house.only(alice)) == SECOND


def test_imaplib_logs_in_over_starttls_with_authenticate(house, alice):
    with imaplib.IMAP4(HOST, house.ports["imap"], timeout=30) as session:
        session.starttls(trusting())
        session.authenticate("PLAIN", lambda _: f"\0{alice}\0{PASSWORD}".encode())
        assert session.state == "AUTH"
        assert session.status("INBOX", "(MESSAGES UNSEEN)")[1] == [b"INBOX (MESSAGES 2 UNSEEN 2)"]


# fetchmail


@pytest.mark.parametrize(
    ("protocol", "service"), [("POP3", "pop3"), ("IMAP", "imap"), ("POP3", "pop3s"), ("IMAP", "imaps")]
)
def test_fetchmail_takes_everything_and_deletes_it_here(need, house, alice, tmp_path, protocol, service):
    program = need("fetchmail")
    os.chmod(tmp_path, 0o755)
    tls = "ssl" if service.endswith("s") else "sslproto 'tls1.2+'"
    deliver = f'mda "cat >> {tmp_path}/got; echo ================ >> {tmp_path}/got"'
    settings = tmp_path / "fetchmailrc"
    settings.write_text(
        f"poll {HOST} protocol {service.removesuffix('s')} port {house.ports[service]}\n"
        f"user '{alice}' password '{PASSWORD}' {tls} no sslcertck no keep fetchall no rewrite\n{deliver}\n"
    )
    settings.chmod(0o600)
    line = [program, "-f", settings, "--pidfile", tmp_path / "pid", "--idfile", tmp_path / "ids", "--nobounce", "-v"]
    run(*line, home=tmp_path)
    got = (tmp_path / "got").read_text().split("================\n")
    assert len(got) == 3
    assert "\nSubject: first\n" in got[0]
    assert got[0].endswith("\n\none\n.dot\n")
    assert got[1].endswith("\n\ntwö\n")
    assert house.messages(alice) == []
    run(*line, home=tmp_path, code=1)  # no mail


# mutt


@pytest.fixture
def mutt(need, house, alice, tmp_path):
    """mutt at a terminal of its own, fed with keys, as alice."""
    program, script = need("mutt"), need("script")
    settings = tmp_path / "muttrc"
    settings.write_text(
        f"set folder=imap://{HOST}:{house.ports['imap']}\n"
        f"set imap_user={alice} imap_pass={PASSWORD} spoolfile=+INBOX record=+Sent\n"
        f"set smtp_url=smtp://{alice}@{HOST}:{house.ports['submission']}/ smtp_pass={PASSWORD}\n"
        f"set from={alice} realname=Alice hostname=example.test header_cache='' ssl_starttls=no ssl_force_tls=no\n"
        "set quit=yes delete=yes confirmcreate=no confirmappend=no move=no mark_old=no timeout=1\n"
    )

    def at_terminal(keys: str) -> None:
        line = f"{program} -n -F {settings} -e 'push \"{keys}<quit>\"'"
        run(script, "-qec", line, "/dev/null", home=tmp_path)

    def in_batch(*options: object, stdin: str = "") -> str:
        return run(program, "-n", "-F", settings, *options, stdin=stdin, home=tmp_path)

    at_terminal.batch = in_batch
    return at_terminal


def test_mutt_flags_saves_and_deletes(mutt, house, alice):
    mutt("<limit>all<enter><first-entry><save-message>=Archive<enter><enter><sync-mailbox>")
    assert without_trace(house.only(alice)) == SECOND
    assert without_trace(house.only(alice, "Archive")) == FIRST
    mutt("<first-entry><flag-message><sync-mailbox>")
    assert "\\Flagged" in house.flags(alice)[0]
    mutt("<first-entry><delete-message><sync-mailbox>")
    assert house.messages(alice) == []


def test_mutt_sends_by_submission_and_keeps_a_copy(mutt, house, alice, bob):
    with house.imap(alice) as session:
        session.create("Sent")
    mutt.batch("-s", "from mutt", bob, stdin="Hello Bob!\n")
    received, kept = until(lambda: house.messages(bob))[0], house.only(alice, "Sent")
    for message in (received, kept):
        assert b"\r\nSubject: from mutt\r\n" in message
        assert message.endswith(b"\r\n\r\nHello Bob!\r\n")
    assert house.flags(alice, "Sent") == [{"\\Seen"}]
