"""The SQL text of look-ups, for each dialect and preset."""

import pytest

from posthouse.config.settings import Database, Lookup, UsersLookup
from posthouse.directory.presets import tables
from posthouse.directory.queries import Kind, Statements, is_name


def statements(dialect, **settings):
    return Statements(dialect, tables(Database(**settings)))


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (
            "sqlite",
            (
                "SELECT 1, '', `email`, `destination` FROM `virtual` WHERE `email` COLLATE NOCASE IN (?1, ?2)"
                " UNION ALL"
                " SELECT 3, '', `domain`, `destination` FROM `transport` WHERE `domain` COLLATE NOCASE IN (?3)"
                " LIMIT 1001"
            ),
        ),
        (
            "mysql",
            (
                "SELECT 1, '', CONVERT(`email` USING utf8mb4), CONVERT(`destination` USING utf8mb4) FROM `virtual`"
                " WHERE `email` IN (%s, %s) UNION ALL SELECT 3, '', CONVERT(`domain` USING utf8mb4),"
                " CONVERT(`destination` USING utf8mb4) FROM `transport` WHERE `domain` IN (%s) LIMIT 1001"
            ),
        ),
        (
            "postgresql",
            (
                """SELECT 1, '', ("email")::text, ("destination")::text FROM "virtual" """
                """WHERE lower("email") IN ($1, $2)"""
                """ UNION ALL SELECT 3, '', ("domain")::text, ("destination")::text FROM "transport" """
                """WHERE lower("domain") IN ($3) LIMIT 1001"""
            ),
        ),
    ],
)
def test_one_statement_asks_several_tables(dialect, text):
    sql, parameters = statements(dialect).find([(Kind.VIRTUAL, ["x@a", "@a"]), (Kind.TRANSPORT, ["a"])])
    assert sql == text
    assert parameters == ["x@a", "@a", "a"]


def test_statements_have_few_shapes():
    made = statements("postgresql")
    texts = {made.find([(Kind.VIRTUAL, [f"{i}@a" for i in range(count)])])[0] for count in range(1, 65)}
    assert len(texts) == 7
    sql, parameters = made.find([(Kind.VIRTUAL, ["a", "b", "c"])])
    assert parameters == ["a", "b", "c", "c"]
    assert "$4" in sql


def test_postfixadmin_s_alias_domains_are_asked_for_by_their_bare_name():
    made = statements("mysql", schema="postfixadmin")
    sql, parameters = made.find([(Kind.VIRTUAL, ["x@a.test", "@a.test"])])
    assert parameters == ["x@a.test", "@a.test", "a.test"]
    assert "SELECT 1, '@', CONVERT(`alias_domain` USING utf8mb4), CONVERT(`target_domain` USING utf8mb4)" in sql
    assert "`address` IN (%s, %s) AND (active)" in sql


def test_a_look_up_that_a_preset_does_not_have_asks_nothing():
    made = statements("sqlite", schema="postfixadmin")
    assert made.find([(Kind.RELOCATED, ["x"]), (Kind.ALIAS, ["x"]), (Kind.VIRTUAL, [])]) == ("", [])


def test_names_are_quoted_and_expressions_taken_as_they_are():
    made = statements(
        "mysql",
        alias=Lookup("mail.names", "LOWER(name)", "target", "kind LIKE 'a%'"),
        users=UsersLookup(quota="NULL", maildir="CONCAT(dir, '/')"),
    )
    sql, _ = made.find([(Kind.ALIAS, ["x"])])
    assert sql == (
        "SELECT 4, '', CONVERT((LOWER(name)) USING utf8mb4), CONVERT(`target` USING utf8mb4) FROM `mail`.`names`"
        " WHERE (LOWER(name)) IN (%s) AND (kind LIKE 'a%%') LIMIT 1001"
    )
    sql, _ = made.find([(Kind.USERS, ["x"])])
    assert "CONVERT((NULL) USING utf8mb4)" in sql
    assert "CONVERT((CONCAT(dir, '/')) USING utf8mb4)" in sql
    assert made.ids(Kind.ALIAS) == ""


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("email", True),
        ("mail.users", True),
        ("_x$1", True),
        ("NULL", False),
        ("1001", False),
        ("a b", False),
        ("`a`", False),
        ("a.", False),
        ("f(x)", False),
        ("", False),
    ],
)
def test_what_is_a_name(text, is_one):
    assert is_name(text) == is_one


@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "postgresql"])
def test_a_password_that_is_no_plain_column_is_not_upgraded(dialect):
    assert statements(dialect, users=UsersLookup(password="CONCAT('{X}', pw)")).upgrade() == ("", "")
    insert, update = statements(dialect).upgrade()
    assert insert.startswith("INSERT INTO posthouse_credentials" if dialect == "postgresql" else "REPLACE INTO")
    assert " SET " in update
