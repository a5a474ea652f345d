"""offlineimap, getmail, neomutt, imapfilter, mpop, IMAPClient and ImapFlow work a mailbox, each in its own way."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from imapclient import IMAPClient
from tests.interop.house import PASSWORD, mail, run, trusting, without_trace

HOST = "127.0.0.1"
FIRST, SECOND, THIRD = (mail(name, f"body of {name}\r\n.dot\r\n") for name in ("first", "second", "third"))


@pytest.fixture
def alice(account, house):
    """An account with three messages, the second one flagged."""
    address = account("alice")
    house.deliver(address, FIRST, SECOND, THIRD)
    with house.imap(address) as session:
        session.store("2", "+FLAGS", r"(\Flagged)")
    return address


def stored(folder: Path) -> dict[bytes, str]:
    """What lies in a Maildir as it was sent, with its flags."""
    files = [file for place in ("new", "cur") for file in (folder / place).iterdir()]
    return {without_trace(file.read_bytes().replace(b"\n", b"\r\n")): file.name.partition(":2,")[2] for file in files}


def make_maildir(folder: Path) -> None:
    for place in ("cur", "new", "tmp"):
        (folder / place).mkdir(parents=True)


def test_offlineimap_synchronises_both_ways(need, house, alice, tmp_path):
    program, local, settings = need("offlineimap"), tmp_path / "mail", tmp_path / "offlineimaprc"
    settings.write_text(
        f"[general]\naccounts = house\nmetadata = {tmp_path}/state\n"
        "[Account house]\nlocalrepository = near\nremoterepository = far\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {local}\nsep = .\n"
        f"[Repository far]\ntype = IMAP\nremotehost = {HOST}\nremoteport = {house.ports['imap']}\n"
        f"remoteuser = {alice}\nremotepass = {PASSWORD}\nssl = no\nstarttls = no\nauth_mechanisms = PLAIN\n"
    )
    run(program, "-c", settings, "-o", "-u", "basic", home=tmp_path)
    assert stored(local / "INBOX") == {FIRST: "", SECOND: "F", THIRD: ""}

    make_maildir(local / "Projects")
    (local / "Projects" / "new" / "1.local").write_bytes(FIRST.replace(b"\r\n", b"\n"))
    with house.imap(alice) as session:
        session.store("1", "+FLAGS", r"(\Deleted)")
        session.expunge()
        session.create("Archive.2026")
        session.copy("2", "Archive.2026")
        session.store("2", "+FLAGS", r"(\Answered)")
    run(program, "-c", settings, "-o", "-u", "basic", home=tmp_path)
    assert stored(local / "INBOX") == {SECOND: "F", THIRD: "R"}
    assert stored(local / "Archive.2026") == {THIRD: ""}
    assert house.only(alice, "Projects").endswith(FIRST.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("kind", "service"), [("SimplePOP3", "pop3"), ("SimplePOP3SSL", "pop3s"), ("SimpleIMAP", "imap")]
)
def test_getmail_takes_each_message_once_and_deletes_when_it_is_to(need, house, alice, tmp_path, kind, service):
    program, box, settings = need("getmail"), tmp_path / "got", tmp_path / "getmailrc"
    text = (
        f"[retriever]\ntype = {kind}Retriever\nserver = {HOST}\nport = {house.ports[service]}\n"
        f"username = {alice}\npassword = {PASSWORD}\n"
        "[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
        f'arguments = ("-c", "cat >> {box}; echo ==== >> {box}")\n'
        "[options]\nread_all = false\ndelivered_to = false\nreceived = false\ndelete = "
    )
    line = [program, "--getmaildir", tmp_path, "--rcfile", "getmailrc"]
    settings.write_text(f"{text}false\n")
    for _ in range(2):
        run(*line, home=tmp_path)
        got = box.read_bytes().split(b"====\n")[:-1]
        assert [b"body of " + name for name in (b"first", b"second", b"third")] == [
            message.rstrip().splitlines()[-2] for message in got
        ]
    settings.write_text(f"{text}true\n")
    run(*line, home=tmp_path)
    assert house.messages(alice) == []


def test_mpop_pipelines_over_tls_and_knows_what_it_has(need, house, alice, tmp_path):
    make_maildir(tmp_path / "got")
    line = [
        need("mpop"), f"--host={HOST}", f"--port={house.ports['pop3']}", f"--user={alice}", "--tls=on",
        f"--passwordeval=echo {PASSWORD}", "--tls-starttls=on", "--tls-certcheck=off", "--pipelining=on",
        f"--uidls-file={tmp_path}/uidls", f"--delivery=maildir,{tmp_path}/got", "--received-header=off",
    ]  # fmt: skip
    for options in (["--keep=on"], ["--keep=on"], ["--keep=off", "--only-new=off"]):
        run(*line, *options, home=tmp_path)
    names = [file.read_bytes().partition(b"Subject: ")[2].split()[0] for file in (tmp_path / "got" / "new").iterdir()]
    assert sorted(names) == sorted([b"first", b"second", b"third"] * 2), "twice in all, not in the second run"
    assert house.messages(alice) == []


def test_imapfilter_finds_flags_and_moves(need, house, alice, tmp_path):
    script = tmp_path / "config.lua"
    script.write_text(
        "options.starttls = false\n"
        f"account = IMAP {{ server = '{HOST}', port = {house.ports['imap']}, "
        f"username = '{alice}', password = '{PASSWORD}' }}\n"
        "account:create_mailbox('Lists')\n"
        "found = account.INBOX:contain_subject('second') * account.INBOX:is_flagged()\n"
        "found = found + account.INBOX:contain_body('body of third')\n"
        "found:add_flags({ '$Sorted' })\nfound:move_messages(account.Lists)\n"
        "account.INBOX:contain_field('Message-ID', 'first@'):mark_seen()\n"
        "all, recent, unseen = account.Lists:check_status()\nprint('there', all, unseen)\n"
    )
    assert "there\t2\t2\n" in run(need("imapfilter"), "-c", script, home=tmp_path)
    assert [without_trace(message) for message in house.messages(alice, "Lists")] == [SECOND, THIRD]
    assert house.flags(alice, "Lists") == [{"\\Flagged", "$Sorted"}, {"$Sorted"}]
    assert house.flags(alice) == [{"\\Seen"}]


def test_neomutt_flags_moves_and_deletes_with_its_cache(need, house, alice, tmp_path):
    program, script, settings = need("neomutt"), need("script"), tmp_path / "neomuttrc"
    settings.write_text(
        f"set folder=imap://{HOST}:{house.ports['imap']}\nset imap_user={alice} imap_pass={PASSWORD}\n"
        f"set spoolfile=+INBOX header_cache={tmp_path}/headers message_cachedir={tmp_path}/bodies\n"
        "set imap_qresync=yes imap_condstore=yes\n"
        "set ssl_starttls=no ssl_force_tls=no quit=yes delete=yes confirmcreate=no confirmappend=no mark_old=no\n"
    )

    def type_in(keys: str) -> None:
        run(script, "-qec", f"{program} -n -F {settings} -e 'push \"{keys}<quit>\"'", "/dev/null", home=tmp_path)

    type_in("<first-entry><save-message>=Archive<enter><sync-mailbox>")
    assert without_trace(house.only(alice, "Archive")) == FIRST
    type_in("<first-entry><flag-message><last-entry><flag-message><sync-mailbox>")
    assert house.flags(alice) == [set(), {"\\Flagged"}]
    type_in("<first-entry><delete-message><sync-mailbox>")
    assert without_trace(house.only(alice)) == THIRD


def test_imapclient_sorts_threads_searches_and_idles(house, alice):
    with IMAPClient(HOST, house.ports["imaps"], ssl_context=trusting(), timeout=30) as client:
        client.login(alice, PASSWORD)
        client.enable("CONDSTORE")
        client.select_folder("INBOX")
        assert client.sort("REVERSE SUBJECT") == [3, 2, 1]
        assert client.thread("REFERENCES") == ((1,), (2,), (3,))
        assert client.search(["TEXT", "body of third", "NOT", "FLAGGED"]) == [3]
        before = client.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"]
        client.idle()
        house.deliver(alice, FIRST)
        seen = client.idle_check(timeout=30)
        client.idle_done()
        assert (4, b"EXISTS") in seen
        client.add_flags([4], [b"\\Seen", b"Work"])
        assert client.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"] > before
        assert set(client.get_flags([4])[4]) - {b"\\Recent"} == {b"\\Seen", b"Work"}
        client.subscribe_folder("Later")
        assert "Later" in [name for _, _, name in client.list_sub_folders()]


@pytest.fixture(scope="session")
def imapflow(tmp_path_factory):
    """The folder with ImapFlow; without node, npm or its registry the test is skipped."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("imapflow")
    line = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "imapflow@1"]
    try:
        done = subprocess.run(line, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm takes too long")
    if done.returncode != 0:
        pytest.skip("npm can't install imapflow")
    return folder


def test_imapflow_works_a_mailbox(imapflow, house, alice):
    script = Path(__file__).with_name("imapflow.js")
    done = subprocess.run(
        ["node", script, str(house.ports["imaps"]), alice, PASSWORD],
        env={**os.environ, "NODE_PATH": str(imapflow / "node_modules")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["folders"] == ["INBOX", "Reisen", "Reisen.Ärger"]
    assert (said["exists"], said["found"], said["moved"], said["appended"]) == (3, [2], [[2, 1]], 4)
    sizes = [len(message) for message in house.messages(alice)[:1]]
    assert said["messages"][0] == ["first", "text/plain", sizes[0]]
    assert said["text"] == "body of first\r\n.dot\r\n"
    assert said["left"] == 1
    assert without_trace(house.only(alice, "Reisen.&AMQ-rger")) == SECOND
    assert house.flags(alice) == [{"\\Flagged", "$Label1"}, {"\\Seen"}]
