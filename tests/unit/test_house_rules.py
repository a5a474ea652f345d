"""The rules of this house that no linter knows. STYLE: CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "posthouse").rglob("*.py"))
MODULES = [pytest.param(path, id=str(path.relative_to(ROOT / "src"))) for path in SOURCES]
MAX_LINES = 400
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "misc", "common"}
CITATION = re.compile(r"RFC (\d{3,5})")


@pytest.mark.parametrize("path", MODULES)
def test_a_module_says_what_it_is_for(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{path} opens without a docstring"
    assert len(docstring) > 10


@pytest.mark.parametrize("path", MODULES)
def test_a_file_is_one_thing(path):
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{path} has {lines} lines: split it"


@pytest.mark.parametrize("path", MODULES)
def test_a_name_says_something(path):
    assert path.stem not in FORBIDDEN_NAMES


def test_every_package_has_its_folder_of_tests_or_is_covered_from_outside():
    packages = {path.parent.name for path in SOURCES if path.parent.parent.name == "posthouse"}
    tested = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()}
    assert packages - tested == set()


def test_every_rfc_that_is_cited_is_in_the_index():
    index = set(CITATION.findall((ROOT / "docs" / "standards.md").read_text()))
    cited = {
        (number, str(path.relative_to(ROOT))) for path in SOURCES for number in CITATION.findall(path.read_text())
    }
    missing = sorted((number, path) for number, path in cited if number not in index)
    assert not missing, f"cited, but not in docs/standards.md: {missing}"


def test_nothing_is_left_for_later_without_saying_so():
    marks = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError", line)
    ]
    assert not marks


def test_no_two_decisions_have_the_same_number():
    numbers = [path.name[:4] for path in (ROOT / "docs" / "adr").glob("*.md")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_the_tests_that_the_documents_name_exist():
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (\w+)", path.read_text())
    }
    assert len(named) > 50
    assert named <= defined
