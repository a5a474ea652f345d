"""The loader: what a configuration file may say, and what it is told when it says something else."""

import os

import pytest

from posthouse.config import loader
from posthouse.config.checks import CHECKS
from posthouse.config.loader import ConfigError, load
from posthouse.config.reference import as_toml


def problems(tmp_path, text):
    path = tmp_path / "posthouse.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ={})
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def settings(tmp_path, text):
    path = tmp_path / "posthouse.toml"
    path.write_text(text)
    return load(str(path), environ={})


def test_no_file_is_a_valid_configuration():
    loaded = load(environ={})
    assert loaded.hostname
    assert os.path.isabs(loaded.data_dir)
    assert all(getattr(loaded.listen, name) for name in loader.PORTS)


def test_high_ports_of_loopback_and_var_are_the_defaults_without_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    loaded = load(environ={})
    assert loaded.data_dir == str(tmp_path / "var")
    assert loaded.listen.smtp == ("127.0.0.1:2525",)
    assert loaded.listen.lmtp == ("127.0.0.1:2424",)
    assert loaded.listen.metrics == ("127.0.0.1:2925",)


def test_well_known_ports_are_the_defaults_as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    loaded = load(environ={})
    assert loaded.data_dir == "/var/lib/posthouse"
    assert loaded.listen.imaps[0] == "0.0.0.0:993"
    assert loaded.listen.lmtp == ("127.0.0.1:24",)
    assert loaded.listen.metrics == ("127.0.0.1:9025",)  # for this host only


def test_an_empty_list_turns_a_listener_off_and_leaves_the_others(tmp_path):
    loaded = settings(tmp_path, "[listen]\npop3 = []\nsmtp = ['[::1]:25', 'unix:/run/x']\n")
    assert loaded.listen.pop3 == ()
    assert loaded.listen.smtp == ("[::1]:25", "unix:/run/x")
    assert loaded.listen.imap


def test_a_data_dir_in_the_file_is_relative_to_the_file(tmp_path):
    assert settings(tmp_path, 'data_dir = "spool/../data"').data_dir == str(tmp_path / "data")


def test_the_option_wins_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    path.write_text('data_dir = "/from/file"\nhostname = "mail.example.com"\n')
    environ = {"POSTHOUSE_CONFIG": str(path), "POSTHOUSE_DATA": "/from/environment"}
    assert load(environ={"POSTHOUSE_CONFIG": str(path)}).data_dir == "/from/file"
    assert load(environ=environ).data_dir == "/from/environment"
    monkeypatch.chdir(tmp_path)
    loaded = load(data="option", environ=environ)
    assert (loaded.data_dir, loaded.hostname) == (str(tmp_path / "option"), "mail.example.com")


def test_all_problems_are_told_at_once_each_with_its_line(tmp_path):
    text = (
        'hostnam = "mail.example.com"\n'
        "workers = -1\n"
        "\n"
        "[smtp]\n"
        'max_size_bytes = "big"  # comment\n'
        'mynetworks = ["10.0.0.0/8", "10.1.2.3/8"]\n'
        "[listen]\n"
        'imap = "127.0.0.1:143"\n'
        'pop3 = ["localhost"]\n'
    )
    found = problems(tmp_path, text)
    assert found[0] == "1: hostnam: unknown; did you mean hostname?"
    assert found[1] == "2: workers: expected a whole number from 0 to 1024, not -1"
    assert found[2] == "5: smtp.max_size_bytes: expected a whole number, not 'big'"
    assert found[3].startswith("6: smtp.mynetworks: expected a network as in '192.0.2.0/24'")
    assert "10.1.2.3/8 has host bits set" in found[3]
    assert found[4] == "8: listen.imap: expected a list of strings, as in ['127.0.0.1:143'], not '127.0.0.1:143'"
    assert found[5] == "9: listen.pop3: expected 'host:port', '[IPv6]:port' or 'unix:/path', not 'localhost'"
    assert len(found) == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_size_bytes = 5", "did you mean smtp.max_size_bytes?"),
        ("[smpt]\nrelayhost = 'x'", "did you mean smtp?"),
        ("[smtp]\nrelay_host = 'x'", "did you mean smtp.relayhost?"),
        ("[tls]\ncert = 'x'", "did you mean tls.certificate?"),
        ("smtp.max_recipient = 5", "did you mean smtp.max_recipients?"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_known_one(tmp_path, text, told):
    (problem,) = problems(tmp_path, text)
    assert problem.endswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("smtp = 5", "1: smtp: expected a table, [smtp], not 5"),
        ("hostname = 'no host'", "1: hostname: expected a full host name"),
        ("hostname = '192.0.2.1'", "1: hostname: expected a full host name"),
        ("workers = true", "1: workers: expected a whole number, not true"),
        ("workers = 1.5", "1: workers: expected a whole number, not 1.5"),
        ("[auth]\nplain_crypt = 'yes'", "2: auth.plain_crypt: expected true or false, not 'yes'"),
        ("[smtp]\ncatchall = 'x'", "2: smtp.catchall: expected one of 'after-accounts', 'before-accounts'"),
        ("[smtp]\nmynetworks = [1]", "2: smtp.mynetworks: expected a list of strings, not [1]"),
        ("[smtp]\nrelayhost = 'a b'", "2: smtp.relayhost: expected 'host', 'host:port' or '[host]:port'"),
        ("[smtp]\nrelayhost = 'a:99999'", "2: smtp.relayhost: expected 'host', 'host:port' or '[host]:port'"),
        ("[database]\nurl = 'mysql://x'", "2: database.url: expected 'sqlite:PATH'"),
        ("[listen]\nsmtp = ['::1:25']", "2: listen.smtp: expected 'host:port'"),
        ("[listen]\nsmtp = ['h:70000']", "2: listen.smtp: expected 'host:port'"),
        ("[listen]\nsmtp = ['unix:x']", "2: listen.smtp: expected 'host:port'"),
        ("[mail]\nroot = ''", "2: mail.root: expected a path"),
        (
            "[queue]\nminimum_wait_seconds = 60\nmaximum_wait_seconds = 30",
            "3: queue.maximum_wait_seconds: must not be less than queue.minimum_wait_seconds",
        ),
        ("workers = \n", "1: not TOML: Invalid value"),
        ("a = 1\n[smtp", "2: not TOML: "),
    ],
)
def test_a_wrong_value_is_told_what_would_be_right(tmp_path, text, told):
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(told)


def test_a_file_that_is_missing_or_no_text_is_told_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory"):
        load(str(tmp_path / "nowhere.toml"), environ={})
    (tmp_path / "latin1.toml").write_bytes(b"hostname = '\xe9'")
    with pytest.raises(ConfigError, match=r"latin1\.toml: not UTF-8 at byte 12"):
        load(str(tmp_path / "latin1.toml"), environ={})


def test_every_check_belongs_to_a_setting():
    assert set(CHECKS) <= set(loader.names())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[auth]\nmechanisms = ['EXTERNAL']", ["2: auth.mechanisms: 'EXTERNAL' needs tls.client_ca"]),
        (
            "[auth]\nmechanisms = ['XOAUTH2']",
            [
                "2: auth.mechanisms: 'OAUTHBEARER' and 'XOAUTH2' need oidc.issuer",
                "2: auth.mechanisms: 'OAUTHBEARER' and",
            ],
        ),
        (
            "[auth]\nmechanisms = ['OAUTHBEARER']\n[oidc]\nissuer = 'https://id.test'\nclient_id = 'x'",
            ["5: oidc.client_id: needs oidc.client_secret_file"],
        ),
        (
            "[auth]\nchain = ['sql', 'ldap']",
            ["2: auth.chain: 'ldap' needs ldap.urls", "2: auth.chain: 'ldap' needs ldap.base, where to search"],
        ),
        (
            "[auth]\nchain = ['ldap']\n[ldap]\nurls = ['ldap://a']\nuser_dn = 'uid={local}'\nbind_dn = 'cn=x'",
            ["5: ldap.user_dn: without {login} or {domain} it needs ldap.domains", "6: ldap.bind_dn: needs"],
        ),
    ],
)
def test_what_a_login_needs_beyond_its_name_is_told(tmp_path, text, told):
    found = problems(tmp_path, text)
    assert len(found) == len(told)
    assert all(problem.startswith(start) for problem, start in zip(found, told, strict=True)), found


def test_a_template_may_name_the_domain_in_another_way(tmp_path):
    table = "[auth]\nchain = ['ldap']\n[ldap]\nurls = ['ldap://a']\nuser_dn = "
    for rest in ("'uid={local},dc={domain}'", "'mail={login}'", "'uid={local}'\ndomains = ['example.test']"):
        assert settings(tmp_path, table + rest).ldap.user_dn


def test_relays_have_names_of_the_operators_choice(tmp_path):
    text = (
        "[relays.isp]\nhost = '[isp.example]:587'\nsenders = ['@a.test']\nuser = 'us'\npassword_file = 'isp.password'"
    )
    relay = settings(tmp_path, text).relays["isp"]
    assert (relay.host, relay.senders, relay.route) == ("[isp.example]:587", ("@a.test",), "us@[isp.example]:587")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[relays]\nhost = 'x'", "1: relays: expected tables, as in [relays.name]"),
        ("[relays.A]\nhost = 'x'\nsenders = ['@a']", "1: relays.A: no name for a relay"),
        ("[relays.a]\nsenders = ['@a']", "1: relays.a: host has to say"),
        ("[relays.a]\nhost = 'x'", "1: relays.a: without senders and without user"),
        ("[relays.a]\nhost = 'x'\nuser = 'u'", "1: relays.a: user needs password_file"),
        ("[relays.a]\nhost = 'x'\nsenders = ['a']", "3: relays.a.senders: expected 'user@domain' or '@domain'"),
        ("[relays.a]\nhost = 'x y'\nsenders = ['@a']", "2: relays.a.host: expected 'host', 'host:port'"),
        (
            "[relays.a]\nhost = 'x'\nsenders = ['@a']\n[relays.b]\nhost = 'y'\nsenders = ['@A']",
            "6: relays.b.senders: '@A' is a sender of relays.a, too",
        ),
        (
            "[smtp]\nrelayhost = 'x'\n[relays.a]\nhost = 'x'\nuser = 'u'\npassword_file = 'p'",
            "4: relays.a.host: smtp.relayhost is there already",
        ),
        (
            "[relays.a]\nhost = 'x'\nsenders = ['@a']\n[relays.b]\nhost = 'x'\nsenders = ['@b']",
            "5: relays.b.host: relays.a is there already for that user",
        ),
    ],
)
def test_what_is_wrong_with_a_relay_is_told(tmp_path, text, told):
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(told)


def test_destinations_have_names_with_dots_and_brackets(tmp_path):
    text = '[destinations."d.example"]\ntls = "verify"\n[destinations."[mx.d.example]:26"]\nconnections = 2\n'
    found = settings(tmp_path, text)
    assert found.destinations["d.example"].tls == "verify"
    assert found.destinations["[mx.d.example]:26"].connections == 2
    assert '[destinations."d.example"]\ntls = "verify"' in as_toml(found)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[destinations."d.example"]\ntls = "secure"\n', 2, "destinations.d.example.tls: expected one of '', 'none'"),
        ('[destinations."D.example"]\n', 1, "destinations.D.example: no name for a destination"),
        ('[destinations."[a]:26"]\nrate = 1\n', 2, "destinations.[a]:26.rate: unknown"),
        ('[destinations."d.example"]\nsource_addresses = ["x"]\n', 2, "expected an IP address"),
    ],
)
def test_what_is_wrong_with_a_destination_is_told_with_its_line(tmp_path, text, line, problem):
    (told,) = problems(tmp_path, text)
    assert told.startswith(f"{line}: ")
    assert problem in told
