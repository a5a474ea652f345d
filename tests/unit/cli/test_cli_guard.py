"""``posthouse guard`` on a file that a server would have filled."""

import json
import time
from contextlib import closing

import pytest

from posthouse.cli import main
from posthouse.services.guardfile import Attempt, GuardFile, Limit

ALICE = "alice@example.test"


@pytest.fixture
def posthouse(tmp_path, monkeypatch, capfd):
    """Runs one command in this process; its exit code, output and error output."""
    for name in ("POSTHOUSE_CONFIG", "POSTHOUSE_DATA"):
        monkeypatch.setenv(name, "")
    config = tmp_path / "posthouse.toml"
    config.write_text(f'hostname = "mx.host.test"\ndata_dir = "{tmp_path}"\n')

    def run(*arguments):
        code = main.run([*arguments, "--config", str(config)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def failures(tmp_path):
    """Two failures that shut an address and its network out."""
    limits = {"u " + ALICE: Limit(10, 60), "a 192.0.2.1": Limit(2, 600), "n 192.0.2.0/24": Limit(2, 900)}
    attempt = Attempt(limits, f"u {ALICE}", f"p 192.0.2.1 {ALICE}", "a 192.0.2.1", "alice@example.test\x1b[2J", b"")
    with closing(GuardFile(f"{tmp_path}/guard.db")) as file:
        for _ in range(2):
            file.fail(attempt, time.time())


def test_nothing_is_listed_before_anything_has_failed(posthouse, tmp_path):
    assert posthouse("guard", "list") == (0, "", "")
    assert posthouse("guard", "list", "--json") == (0, "[]\n", "")
    assert not (tmp_path / "guard.db").exists()


def test_failures_are_listed_who_is_shut_out_first(posthouse, failures):
    _, said, _ = posthouse("guard", "list")
    assert [line.split()[:3] for line in said.splitlines()] == [
        ["WHAT", "NAME", "FAILURES"],
        ["network", "192.0.2.0/24", "2"],
        ["address", "192.0.2.1", "2"],
        ["account", ALICE, "2"],
    ]
    assert "\x1b" not in said
    listed = json.loads(posthouse("guard", "list", "--json")[1])
    assert [(one["what"], one["blocked_until"] is not None) for one in listed] == [
        ("network", True),
        ("address", True),
        ("account", False),
    ]


def test_cleared_address_hears_that_its_network_is_shut_out_too(posthouse, failures):
    code, said, _ = posthouse("guard", "clear", "192.0.2.1")
    assert code == 0
    assert said.splitlines() == [
        "address 192.0.2.1: 2 failures forgotten",
        "network 192.0.2.0/24 is shut out, too: posthouse guard clear 192.0.2.0/24",
    ]
    assert posthouse("guard", "clear", "192.0.2.0/24")[1] == "network 192.0.2.0/24: 2 failures forgotten\n"
    assert posthouse("guard", "clear", "192.0.2.0/24")[1] == "192.0.2.0/24: no failed logins are known\n"


def test_everything_can_be_cleared(posthouse, failures):
    assert posthouse("guard", "clear", "--all")[0] == 0
    assert posthouse("guard", "list")[1] == ""


@pytest.mark.parametrize("arguments", [(), ("192.0.2.1", "--all")])
def test_clear_wants_to_know_whose(posthouse, arguments):
    code, _, complaint = posthouse("guard", "clear", *arguments)
    assert code == 2
    assert "--all" in complaint


def test_broken_file_is_named(posthouse, tmp_path):
    (tmp_path / "guard.db").write_bytes(b"no database" * 1000)
    code, _, complaint = posthouse("guard", "list")
    assert code == 75
    assert f"{tmp_path}/guard.db" in complaint


@pytest.mark.parametrize(
    "target", ["192.0.2.300", "192.0.2.0/33", "2001:db8::g", "bob@", "@a.test", "bob@a..b", "a b"]
)
def test_clear_refuses_what_nobody_is_called(posthouse, target):
    code, _, complaint = posthouse("guard", "clear", target)
    assert code == 2
    assert f"{target!r} is neither an address, nor a network, nor an account" in " ".join(complaint.split())


@pytest.mark.parametrize("target", ["bob", "bob@a.test", "bob@ä.test", "2001:db8::/48", "192.0.2.1"])
def test_clear_takes_what_somebody_could_be_called(posthouse, target):
    assert posthouse("guard", "clear", target) == (0, f"{target}: no failed logins are known\n", "")
