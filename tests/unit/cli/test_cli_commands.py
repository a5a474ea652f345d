"""The command line: names, options anywhere, exit codes, JSON, and one line for each error."""

import json
import os
import subprocess
import sys

import pytest

from posthouse.cli import main
from posthouse.config.loader import ConfigError

PROGRAM = os.path.join(os.path.dirname(sys.executable), "posthouse")


@pytest.fixture
def posthouse(tmp_path, monkeypatch, capfd):
    """Runs one command in this process; its exit code, output and error output."""
    for name in ("POSTHOUSE_CONFIG", "POSTHOUSE_DATA"):
        monkeypatch.setenv(name, "")
    config = tmp_path / "posthouse.toml"
    config.write_text('hostname = "mx.host.test"\ndata_dir = "data"\n')

    def run(*arguments):
        code = main.run([*arguments, "--config", str(config)])
        return code, *capfd.readouterr()

    return run


def test_a_first_use_makes_the_database_and_a_user_can_be_taken_on_and_let_go(posthouse, tmp_path):
    assert posthouse("domain", "add", "A.test") == (0, "a.test is hosted here\n", "")
    assert os.stat(tmp_path / "data").st_mode & 0o777 == 0o700
    code, said, _ = posthouse("account", "add", "bob@a.test", "--name", "Bob")
    assert code == 0
    assert said.startswith("bob@a.test added, password ")
    assert len(said.split()[-1]) == 23
    assert posthouse("alias", "add", "sales@a.test", "bob@a.test")[0] == 0
    (account,) = json.loads(posthouse("account", "list", "--json")[1])
    assert (account["email"], account["maildir"], account["enabled"]) == ("bob@a.test", "a.test/bob/", True)
    (alias,) = json.loads(posthouse("alias", "list", "--json")[1])
    assert alias == {"table": "virtual", "key": "sales@a.test", "destinations": ["bob@a.test"]}
    (domain,) = json.loads(posthouse("domain", "list", "--json")[1])
    assert (domain["name"], domain["transport"], domain["accounts"], domain["aliases"]) == (
        "a.test",
        "virtual:",
        1,
        1,
    )
    assert (domain["enabled"], domain["max_accounts"], domain["default_quota"]) == (True, None, "")
    assert posthouse("account", "list")[1].splitlines()[1].split() == [
        "bob@a.test",
        "Bob",
        "a.test/bob/",
        "-",
        "enabled",
    ]
    assert posthouse("account", "passwd", "bob@a.test")[0] == 0
    assert posthouse("account", "disable", "bob@a.test") == (0, "bob@a.test is disabled\n", "")
    assert posthouse("account", "enable", "bob@a.test") == (0, "bob@a.test is enabled\n", "")
    assert posthouse("alias", "remove", "sales@a.test") == (0, "sales@a.test removed\n", "")
    _, said, _ = posthouse("account", "remove", "bob@a.test")
    assert said == f"bob@a.test removed; its mail stays in {tmp_path}/data/mail/a.test/bob\n"
    assert posthouse("domain", "remove", "a.test") == (0, "a.test is no longer hosted here\n", "")


def test_resolve_explains_by_step_and_table_and_ends_with_0_or_1(posthouse):
    posthouse("domain", "add", "a.test")
    posthouse("account", "add", "bob@a.test")
    code, said, _ = posthouse("resolve", "bob@a.test")
    assert code == 0
    lines = [line.split(maxsplit=2) for line in said.splitlines()]
    assert [line[:2] for line in lines[1:-1]] == [
        ["1", "virtual"],
        ["2", "relocated"],
        ["3", "transport"],
        ["4", "users"],
    ]
    assert said.endswith("goes to the mailbox a.test/bob/ of bob@a.test\n")
    code, said, _ = posthouse("resolve", "eve@a.test", "--json")
    explained = json.loads(said)
    assert (code, explained["deliverable"], explained["error"]["reply"]["status"]) == (1, False, "5.1.1")
    code, said, _ = posthouse("resolve", "x@e.test", "--json")
    explained = json.loads(said)
    assert (code, explained["relay"], explained["destinations"][0]["kind"]) == (0, True, "ToHost")
    assert posthouse("resolve", "postmaster")[0] == 1


def test_canonical_addresses_are_told_wherever_mail_is_explained(posthouse, tmp_path):
    (tmp_path / "canonical").write_text(
        "@old.test @a.test\nx@a.test x@far.example\nc@a.test d@a.test\nd@a.test c@a.test\n"
    )
    (tmp_path / "from").write_text("bob@a.test bob@branch.test\n")
    with (tmp_path / "posthouse.toml").open("a") as file:
        file.write(
            f"[rewrite]\nrecipient_canonical = '{tmp_path}/canonical'\nsender_canonical = '{tmp_path}/from'\n"
            "[relays.branch]\nhost = '[127.0.0.7]:25'\nsenders = ['@branch.test']\n"
        )
    posthouse("domain", "add", "a.test")
    posthouse("account", "add", "bob@a.test")

    code, said, _ = posthouse("resolve", "bob@old.test")
    assert code == 0
    assert "    0  canonical  is bob@a.test; not so for what comes by LMTP\n  bob@a.test\n    1  virtual " in said
    assert json.loads(posthouse("resolve", "bob@old.test", "--json")[1])["steps"][0]["table"] == "canonical"
    code, said, _ = posthouse("resolve", "c@a.test")
    assert (code, said.splitlines()[1]) == (1, "try later: 451 4.3.5 Server configuration problem")
    assert "goes round in circles" in said

    code, said, _ = posthouse("route", "x@a.test", "--from", "bob@a.test")
    assert code == 0
    assert "  is x@far.example; " in said
    assert "x@far.example by relays.branch" in said
    assert said.endswith("the sender bob@a.test is bob@branch.test\n")

    door = ("smtp", "explain", "--client", "192.0.2.1", "--name", "h.test", "--from", "e@f.test", "--to")
    code, said, _ = posthouse(*door, "x@a.test")
    assert (code, said.splitlines()[-3:]) == (
        0,
        [
            "  always     canonical: x@a.test is x@far.example",
            "  always     destination: x@a.test is taken here, whoever sends it",
            "let in",
        ],
    )
    assert posthouse(*door, "nobody@a.test")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("domain", "add", "not a domain"), "'not a domain' is not a domain name"),
        (("account", "add", "bob@e.test"), "e.test is not hosted here: 'posthouse domain add e.test' first"),
        (
            ("account", "passwd", "bob@e.test"),
            "bob@e.test: there is no such account; 'posthouse account list' shows them",
        ),
        (("alias", "remove", "x@e.test"), "x@e.test: there is no such alias; 'posthouse alias list' shows them"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_code_1(posthouse, arguments, said):
    posthouse("domain", "add", "a.test")
    assert posthouse(*arguments) == (1, "", f"posthouse: {said}\n")


@pytest.mark.parametrize(
    "arguments", [("account", "list"), ("alias", "add", "a@b.test", "c@d.test"), ("resolve", "a@b.test")]
)
def test_a_mistyped_place_is_said_so_and_nothing_is_made_there(posthouse, tmp_path, arguments):
    code, _, said = posthouse(*arguments)
    assert code == 1
    assert said.startswith(
        f"posthouse: there is no database at {tmp_path}/data/posthouse.db: check --data and --config"
    )
    assert not (tmp_path / "data").exists()


def test_a_database_that_can_t_be_used_is_one_line_and_exit_code_75(posthouse, tmp_path):
    os.makedirs(tmp_path / "data")
    (tmp_path / "data" / "posthouse.db").write_bytes(b"garbage " * 1000)
    code, _, said = posthouse("domain", "list")
    assert (code, said) == (75, f"posthouse: database {tmp_path}/data/posthouse.db: file is not a database\n")


@pytest.mark.parametrize("arguments", [("domain", "ad"), ("account", "add"), ("nonsense",), ("resolve", "a b@c")])
def test_wrong_usage_is_exit_code_2_without_a_traceback(posthouse, arguments):
    code, _, said = posthouse(*arguments)
    assert code == 2
    assert "Traceback" not in said


def test_a_wrong_configuration_is_a_line_for_each_problem_and_exit_code_2(tmp_path, monkeypatch, capsys):
    path = tmp_path / "wrong.toml"
    path.write_text("workers = 'many'\n[smtp]\nmax_sise_bytes = 1\n")
    monkeypatch.setenv("POSTHOUSE_CONFIG", str(path))
    for command in (["config", "check"], ["domain", "list"], ["serve"]):
        assert main.run(command) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"posthouse: {path}:1: workers: expected a whole number, not 'many'",
            f"posthouse: {path}:3: smtp.max_sise_bytes: unknown; did you mean smtp.max_size_bytes?",
        ]


def test_config_and_data_stand_anywhere_on_the_line(monkeypatch):
    for name in ("POSTHOUSE_CONFIG", "POSTHOUSE_DATA"):
        monkeypatch.setenv(name, "")
    assert main.take_options(["--config", "a", "domain", "--data=b", "list"]) == ["domain", "list"]
    assert (os.environ["POSTHOUSE_CONFIG"], os.environ["POSTHOUSE_DATA"]) == ("a", "b")
    assert main.take_options(["domain", "list", "--data", "c", "--", "--config", "d"]) == [
        "domain",
        "list",
        "--",
        "--config",
        "d",
    ]
    assert (os.environ["POSTHOUSE_CONFIG"], os.environ["POSTHOUSE_DATA"]) == ("a", "c")
    with pytest.raises(ConfigError):
        main.take_options(["domain", "--config"])


def test_control_characters_in_a_table_do_not_reach_the_terminal(posthouse, tmp_path):
    import sqlite3

    posthouse("domain", "add", "a.test")
    connection = sqlite3.connect(tmp_path / "data" / "posthouse.db")
    connection.execute("INSERT INTO virtual (email, destination) VALUES ('x@a.test', char(27) || '[2J')")
    connection.commit()
    connection.close()
    assert "\x1b" not in posthouse("alias", "list")[1] + posthouse("resolve", "x@a.test")[1]


def test_config_show_and_reference_print_what_they_know(posthouse, tmp_path):
    assert 'hostname = "mx.host.test"' in posthouse("config", "show")[1]
    assert json.loads(posthouse("config", "show", "--json")[1])["data_dir"] == f"{tmp_path}/data"
    assert posthouse("config", "reference")[1].startswith("# Settings\n")


def run_program(*arguments, data="", text=""):
    environ = {**os.environ, "POSTHOUSE_DATA": str(data)}
    return subprocess.run([PROGRAM, *arguments], env=environ, input=text, capture_output=True, text=True, timeout=60)


def test_the_program_takes_a_password_from_standard_input(tmp_path):
    assert run_program("domain", "add", "a.test", data=tmp_path).returncode == 0
    done = run_program("account", "add", "bob@a.test", "--password-stdin", data=tmp_path, text="secret\nmore\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bob@a.test added\n", "")


def test_help_lists_every_noun():
    text = run_program("--help").stdout
    for noun in (
        "serve",
        "config",
        "domain",
        "account",
        "alias",
        "relocated",
        "transport",
        "import",
        "export",
        "audit",
        "queue",
        "resolve",
        "version",
    ):
        assert f"\n  {noun} " in text


def test_the_way_to_serve_imports_nothing_of_the_other_commands():
    code = "import sys, posthouse.cli.main, posthouse.cli.serve; print('typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


def test_a_bug_is_one_line_and_exit_code_70_with_its_traceback_where_that_is_asked_for(posthouse, monkeypatch):
    def broken():
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.delenv("POSTHOUSE_DEBUG", raising=False)
    monkeypatch.setattr("posthouse.cli.terminal.settings", broken)
    code, said, complaint = posthouse("domain", "list")
    assert (code, said) == (70, "")
    assert complaint == (
        "posthouse: a bug: ZeroDivisionError: one two; run again with POSTHOUSE_DEBUG=1 for the traceback, "
        "and report it\n"
    )
    monkeypatch.setenv("POSTHOUSE_DEBUG", "1")
    code, _, complaint = posthouse("domain", "list")
    assert code == 70
    assert complaint.startswith("Traceback")


@pytest.mark.parametrize("arguments", [("version",), ("config", "reference"), ("nonsense",)])
def test_a_reader_that_has_enough_ends_a_command_quietly(arguments):
    """The pipe is closed before anything is printed: found while printing, or only when what is kept is flushed."""
    reader, writer = os.pipe()
    os.close(reader)
    errors = writer if arguments == ("nonsense",) else subprocess.PIPE
    done = subprocess.run([PROGRAM, *arguments], stdout=writer, stderr=errors, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr or b"") == (1, b"")


def test_what_can_t_be_printed_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "version"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"posthouse: system: No space left on device\n")


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_an_import_reads_what_comes_through_a_pipe(tmp_path, name):
    run_program("domain", "add", "a.test", data=tmp_path)
    for said in ("2 added, 0 updated, 0 there already\n", "0 added, 0 updated, 2 there already\n"):
        text = "email,name\nbob@a.test,Bob\neve@a.test,Ève\n"
        done = run_program("import", "csv", name, "--existing", "skip", data=tmp_path, text=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
