"""Domains, accounts and addresses as an operator changes them on the command line."""

import csv
import io
import json
import re
import time

import pytest

from posthouse.cli import main
from posthouse.services import totp


@pytest.fixture
def posthouse(tmp_path, monkeypatch, capfd):
    """Runs one command in this process; its exit code, output and error output. The domain a.test is there."""
    for name in ("POSTHOUSE_CONFIG", "POSTHOUSE_DATA"):
        monkeypatch.setenv(name, "")
    config = tmp_path / "posthouse.toml"
    config.write_text('hostname = "mx.host.test"\ndata_dir = "data"\n')

    def run(*arguments):
        code = main.run([*arguments, "--config", str(config)])
        return code, *capfd.readouterr()

    assert run("domain", "add", "a.test", "--note", "first")[0] == 0
    return run


def test_a_domain_s_limits_are_set_shown_and_kept(posthouse):
    said = posthouse("domain", "set", "a.test", "--max-accounts", "1", "--default-quota", "1K", "--total-quota", "1M")
    assert said == (0, "a.test: max-accounts 1, default-quota 1024, total-quota 1048576\n", "")
    posthouse("account", "add", "bob@a.test")
    code, _, said = posthouse("account", "add", "eve@a.test")
    assert code == 1
    assert said.startswith("posthouse: a.test has 1 accounts and may have 1: 'posthouse domain set a.test")
    shown = json.loads(posthouse("domain", "show", "a.test", "--json")[1])
    assert (shown["accounts"], shown["quota_bytes"], shown["note"], shown["enabled"]) == (1, 1024, "first", True)
    assert "accounts         1 of 1\n" in posthouse("domain", "show", "a.test")[1]
    assert posthouse("domain", "set", "a.test", "--disable")[1] == "a.test: disabled\n"
    assert "disabled" in posthouse("domain", "list")[1]
    assert posthouse("domain", "set", "a.test")[0] == 1
    assert posthouse("domain", "set", "a.test", "--max-accounts", "many")[0] == 2
    code, _, said = posthouse("domain", "set", "a.test", "--max-accounts", "99999999999")
    assert code == 1
    assert said.endswith("expected 0 to 2147483647, or none\n")


def test_catch_all_alias_domain_and_administrator_are_a_command_each(posthouse):
    posthouse("account", "add", "bob@a.test")
    assert posthouse("domain", "catchall", "set", "a.test", "bob@a.test")[1] == "@a.test -> bob@a.test\n"
    assert posthouse("domain", "alias", "add", "b.test", "a.test")[1] == "@b.test -> @a.test\n"
    assert posthouse("resolve", "any@b.test")[0] == 0
    assert posthouse("domain", "admin", "add", "a.test", "bob@a.test")[1] == "bob@a.test administers a.test\n"
    assert json.loads(posthouse("domain", "admin", "list", "--json")[1]) == [
        {"account": "bob@a.test", "domain": "a.test"}
    ]
    assert posthouse("domain", "admin", "remove", "a.test", "bob@a.test")[0] == 0
    assert "no longer hosted" in posthouse("domain", "alias", "remove", "b.test")[1]
    assert posthouse("domain", "catchall", "unset", "a.test")[0] == 0
    assert posthouse("domain", "catchall", "unset", "a.test")[0] == 1


def test_an_account_s_quota_name_forward_and_second_factor(posthouse):
    posthouse("account", "add", "bob@a.test")
    assert posthouse("account", "quota", "bob@a.test", "1M")[1] == "bob@a.test has the quota 1048576\n"
    assert posthouse("account", "name", "bob@a.test", "Bob")[0] == 0
    said = posthouse("account", "forward", "bob@a.test", "far@e.test", "--keep")
    assert said[1] == "bob@a.test -> bob@a.test, far@e.test\n"
    made = posthouse("account", "app-password", "add", "bob@a.test", "phone", "--scope", "imap")[1]
    password = re.search(r"app password (\S+) for phone", made)[1]
    secret = re.search(r"secret=([A-Z2-7]+)", posthouse("account", "totp", "set", "bob@a.test")[1])[1]
    assert posthouse("account", "totp", "verify", "bob@a.test", totp.code(secret, time.time()))[0] == 0
    assert posthouse("account", "totp", "verify", "bob@a.test", "abc")[0] == 1
    shown = json.loads(posthouse("account", "show", "bob@a.test", "--json")[1])
    assert (shown["quota"], shown["name"], shown["has_totp"]) == ("1048576", "Bob", True)
    assert shown["app_passwords"][0]["scopes"] == ["imap"]
    told = posthouse("account", "show", "bob@a.test")[1] + posthouse("audit")[1] + posthouse("audit", "--json")[1]
    assert password not in told
    assert secret not in told
    assert posthouse("account", "forward", "bob@a.test", "--off")[0] == 0
    assert posthouse("account", "forward", "bob@a.test")[0] == 2
    assert posthouse("account", "app-password", "remove", "bob@a.test", "phone")[0] == 0
    assert posthouse("account", "totp", "remove", "bob@a.test")[0] == 0


def test_an_import_that_can_t_be_is_a_line_each_and_one_that_can_is_exported_again(posthouse, tmp_path):
    file = tmp_path / "accounts.csv"
    file.write_text("email,clear,name\nbob@a.test,{SSHA}x,Bob\neve@e.test,,\n")
    code, said, errors = posthouse("import", "csv", str(file))
    assert (code, said) == (1, "")
    assert errors.splitlines() == [
        "line 3: e.test is not hosted here: 'posthouse domain add e.test' first",
        "posthouse: nothing was imported: 1 of the file's lines can't be",
    ]
    code, said, _ = posthouse("import", "csv", str(file), "--continue")
    assert (code, said) == (0, "1 added, 0 updated, 0 there already, 1 left out\n")
    (row,) = csv.DictReader(io.StringIO(posthouse("export", "accounts", "--secrets")[1]))
    assert (row["email"], row["clear"], row["name"], row["enabled"]) == ("bob@a.test", "{SSHA}x", "Bob", "y")
    assert "SSHA" not in posthouse("export", "accounts", "--json")[1]
    file.write_text("key,destination\ninfo@a.test,bob@a.test\n")
    assert posthouse("import", "csv", str(file), "--table", "virtual")[1].startswith("1 added")
    assert posthouse("export", "virtual")[1] == "key,destination\ninfo@a.test,bob@a.test\n"
    said = posthouse("account", "remove", "bob@a.test")[1]
    assert said.endswith("aliases still lead to it (--aliases would have removed them): info@a.test\n")
    assert posthouse("import", "csv", str(tmp_path / "none.csv"))[0] == 1


def test_routes_moves_and_the_log_are_listed(posthouse):
    assert posthouse("transport", "add", ".e.test", "relay:[192.0.2.1]:25")[0] == 0
    code, _, warning = posthouse("transport", "add", "fax.test", "fax:host")
    assert (code, "[transports.fax]" in warning) == (0, True)
    assert json.loads(posthouse("transport", "list", "--json")[1])[0]["destination"] == "relay:[192.0.2.1]:25"
    assert posthouse("transport", "remove", ".e.test")[0] == 0
    assert posthouse("relocated", "add", "old@a.test", "new@e.test")[0] == 0
    assert posthouse("relocated", "list")[1].splitlines()[1].split() == ["old@a.test", "new@e.test"]
    assert posthouse("relocated", "remove", "old@a.test")[0] == 0
    entries = json.loads(posthouse("audit", "--object", "a.test", "--json")[1])
    assert [entry["what"] for entry in entries] == ["relocated remove", "relocated add", "domain add"]
    assert entries[0]["source"] == "cli"
    assert posthouse("audit", "--since", "yesterday")[0] == 1


def test_nothing_that_a_terminal_would_obey_is_in_json_either(posthouse, tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "data" / "posthouse.db") as connection:
        connection.execute(
            "INSERT INTO virtual (email, destination) VALUES ('x@a.test', char(155) || '2J' || char(8238))"
        )
    connection.close()
    said = posthouse("alias", "list", "--json")[1]
    assert "\x9b" not in said
    assert json.loads(said)[0]["destinations"] == ["\x9b2J\u202e"]


def test_ctrl_c_ends_any_command_with_130_and_a_line(posthouse, monkeypatch):
    def pressed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("posthouse.cli.terminal.password", pressed)
    assert posthouse("account", "add", "bob@a.test") == (130, "", "\nposthouse: interrupted\n")


def test_what_is_made_is_told_as_json_with_its_password_where_it_was_made_here(posthouse):
    made = json.loads(posthouse("account", "add", "Bob@a.test", "--json")[1])
    assert (made["email"], made["maildir"], len(made["password"])) == ("bob@a.test", "a.test/bob/", 23)
    phone = json.loads(posthouse("account", "app-password", "add", "Bob@a.test", "phone", "--json")[1])
    assert (phone["email"], phone["scopes"], len(phone["password"])) == ("bob@a.test", ["imap", "pop3", "smtp"], 23)


def test_what_an_account_uses_of_its_quota_is_shown_as_it_was_counted_and_nothing_is_made(posthouse, tmp_path):
    def shown():
        text = posthouse("account", "show", "bob@a.test")[1]
        used = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("used")]
        return used, json.loads(posthouse("account", "show", "bob@a.test", "--json")[1])["used"]

    posthouse("account", "add", "bob@a.test")
    assert shown() == ([], None)
    posthouse("account", "quota", "bob@a.test", "1M")
    assert shown() == (["not counted yet"], None)
    maildir = tmp_path / "data" / "mail" / "a.test" / "bob"
    assert not maildir.exists()
    maildir.mkdir(parents=True)
    (maildir / "maildirsize").write_text("1048576S\n1000 2\n234 1\n")
    assert shown() == (["1234 of 1048576 bytes, 3 messages"], {"size_bytes": 1234, "messages": 3})
    posthouse("account", "quota", "bob@a.test", "1048576S,10C")
    assert shown() == (["not counted yet"], None)
    (maildir / "maildirsize").write_text("1048576S,10C\n1234 3\n")
    assert shown()[0] == ["1234 of 1048576 bytes, 3 of 10 messages"]
    assert [path.name for path in maildir.iterdir()] == ["maildirsize"]


@pytest.mark.parametrize("noun", ["account", "alias", "relocated"])
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_what_a_domain_has_that_is_not_hosted_is_no_empty_list(posthouse, noun, arguments):
    assert posthouse(noun, "list", "--domain", "a.test", "--json") == (0, "[]\n", "")
    code, said, complaint = posthouse(noun, "list", "--domain", "nope.example", *arguments)
    assert (code, said) == (1, "")
    assert complaint.startswith("posthouse: nope.example is not hosted here")


def test_no_account_s_mail_is_refused_by_a_move_unless_that_is_said(posthouse):
    posthouse("account", "add", "bob@a.test")
    for address in ("Bob@a.test", "@a.test"):
        code, _, complaint = posthouse("relocated", "add", address, "bob@e.test")
        assert (code, "mail would be refused" in complaint, "--force" in complaint) == (1, True, True)
    assert posthouse("resolve", "bob@a.test")[0] == 0
    assert posthouse("relocated", "add", "bob@a.test", "bob@e.test", "--force")[0] == 0
    assert posthouse("resolve", "bob@a.test")[0] == 1
    posthouse("relocated", "remove", "bob@a.test")
    posthouse("account", "disable", "bob@a.test")
    assert posthouse("relocated", "add", "bob@a.test", "bob@e.test")[0] == 0
