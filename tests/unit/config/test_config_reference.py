"""The settings' reference and the settings as text."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from posthouse.config.loader import load, names
from posthouse.config.reference import as_dict, as_toml, reference
from posthouse.config.settings import Database, Settings

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")
PAGES = [Path(ROOT, "README.md"), *sorted(Path(ROOT, "docs").rglob("*.md"))]
FILES = (".db", ".py", ".sock", ".service", ".stamp", ".index", ".password")
TABLES = {name.partition(".")[0] for name in names() if "." in name}


def test_the_reference_in_docs_is_up_to_date():
    with open(os.path.join(ROOT, "docs", "settings.md"), encoding="utf-8") as file:
        assert file.read() == reference(), "run: posthouse config reference > docs/settings.md"


def test_the_reference_explains_every_setting():
    text = reference()
    for name in names():
        assert f"- **`{name.rpartition('.')[2]}`**" in text
        assert "`: \n" not in text


def test_what_show_prints_is_a_configuration_that_means_the_same(tmp_path):
    shown = load(data="/srv/posthouse", environ={})
    path = tmp_path / "shown.toml"
    path.write_text(as_toml(shown))
    assert load(str(path), environ={}) == shown


def test_passwords_are_hidden():
    settings = dataclasses.replace(Settings(), database=Database("mysql://posthouse:secret@db/mail"))
    assert as_dict(settings)["database"]["url"] == "mysql://posthouse:***@db/mail"
    assert ":secret@" not in as_toml(settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_setting_that_a_page_names_exists(page):
    """`` `table.key` ``, `` `[table]` `` and `` `[table.NAME]` ``: nothing that has gone or never was."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`\[?([a-z]\w+(?:\.\w+)*\.[a-z]\w+|[a-z]\w+\.NAME)\]?(?: = [^`]*)?`", text))
    named = {name for name in named if name.partition(".")[0] in TABLES and not name.endswith(FILES)}
    named = {re.sub(r"^(transports|relays|destinations)\.\w+", r"\1.NAME", name) for name in named}
    named |= set(re.findall(r"`\[([a-z]\w+)\]`", text)) - {"host"}
    tables = {name.rsplit(".", depth)[0] for name in names() for depth in range(1, name.count(".") + 1)}
    assert named <= tables | set(names())
    assert page.stem != "coming-from-postfix" or len(named) > 50
