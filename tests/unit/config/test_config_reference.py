"""The settings' reference and the settings as text."""

import dataclasses
import os

from posthouse.config.loader import load, names
from posthouse.config.reference import as_dict, as_toml, reference
from posthouse.config.settings import Database, Settings

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")


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
