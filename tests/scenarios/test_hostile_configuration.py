"""Configurations that can't be used: said with file, line, key and what would be right, and nothing is started."""

import re
import subprocess

import pytest
from tests.running import PROGRAM

BROKEN = {
    "no TOML": ('hostname = "mail.example.test\n', 1, ""),
    "unknown key": ('hostnam = "mail.example.test"\n', 1, "hostname"),
    "unknown table": ('[smpt]\nrelayhost = ""\n', 1, "smtp"),
    "unknown key in a table": ("\n[smtp]\nmax_size = 1000000\n", 3, "max_size_bytes"),
    "wrong table": ("[imap]\nmax_recipients = 5\n", 2, "smtp.max_recipients"),
    "text for a number": ('workers = "two"\n', 1, "whole number"),
    "number for text": ("hostname = 5\n", 1, "string"),
    "text for a list": ('[listen]\nsmtp = "127.0.0.1:2525"\n', 2, "list of strings"),
    "value for a table": ("smtp = 25\n", 1, "[smtp]"),
    "address without port": ('[listen]\nsmtp = ["127.0.0.1"]\n', 2, "host:port"),
    "port out of range": ('[listen]\nimap = ["127.0.0.1:99999"]\n', 2, "host:port"),
    "bad network": ('[smtp]\nmynetworks = ["10.0.0.0/33"]\n', 2, "192.0.2.0/24"),
    "host bits in a network": ('[auth]\ntrusted_networks = ["10.0.0.1/8"]\n', 2, "network"),
    "bad host name": ('hostname = "mail example"\n', 1, "full host name"),
    "negative size": ("[smtp]\nmax_size_bytes = -1\n", 2, "whole number from"),
    "no such choice": ('[mail]\ndurability = "maybe"\n', 2, "'journal'"),
    "unknown mechanism": ('[auth]\nmechanisms = ["NTLM"]\n', 2, "SCRAM-SHA-256"),
    "unknown database": ('[database]\nurl = "oracle:x"\n', 2, "sqlite:PATH"),
    "waits the wrong way round": ("[queue]\nminimum_wait_seconds = 10\nmaximum_wait_seconds = 5\n", 3, "less than"),
    "boolean for a number": ("workers = true\n", 1, "whole number"),
    "twice the same key": ("workers = 1\nworkers = 2\n", 2, ""),
}


def serve(*arguments):
    return subprocess.run([PROGRAM, "serve", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_explained_and_starts_nothing(tmp_path, name):
    text, line, right = BROKEN[name]
    file = tmp_path / "posthouse.toml"
    file.write_text(text)
    done = serve("--config", str(file), "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert re.search(rf"{re.escape(str(file))}:{line}: ", done.stderr), done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_not_there_or_not_text_is_said_so(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    for file in (tmp_path / "missing.toml", tmp_path / "binary.toml", tmp_path):
        done = serve("--config", str(file), "--data", str(tmp_path / "data"))
        assert done.returncode == 2
        assert str(file) in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("place", ["file", "below a file", "journal is a file", "tls is a file"])
def test_a_data_directory_that_cannot_be_used_is_said_so(tmp_path, place):
    data = tmp_path / "data"
    if place == "file":
        data.write_text("")
    elif place == "below a file":
        (tmp_path / "x").write_text("")
        data = tmp_path / "x" / "data"
    else:
        data.mkdir()
        if place == "journal is a file":
            (data / "journal").write_text("")
        else:
            (data / "tls").write_text("")
    file = tmp_path / "posthouse.toml"
    services = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "lmtp", "metrics")
    file.write_text("[listen]\n" + "".join(f'{service} = ["127.0.0.1:0"]\n' for service in services))
    done = serve("--config", str(file), "--data", str(data))
    assert done.returncode in (1, 2)
    assert str(data) in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert '"serving"' not in done.stderr


def test_a_database_that_cannot_be_opened_is_said_so(tmp_path):
    (tmp_path / "posthouse.db").mkdir()
    done = subprocess.run(
        [PROGRAM, "serve", "--demo", "--data", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"cannot prepare {tmp_path}: database {tmp_path}/posthouse.db: unable to open" in done.stderr
    assert "Traceback" not in done.stderr
