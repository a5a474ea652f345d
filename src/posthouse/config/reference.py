"""The settings' reference, made from the dataclasses and their attribute docstrings; and settings as text."""

import ast
import dataclasses
import inspect
import json
import re
from typing import Any, cast, get_type_hints

from posthouse.config import destinations as destinations_module
from posthouse.config import filtering as filtering_module
from posthouse.config import mail as mail_module
from posthouse.config import milters as milters_module
from posthouse.config import reception as reception_module
from posthouse.config import relays as relays_module
from posthouse.config import rewriting as rewriting_module
from posthouse.config import settings as settings_module
from posthouse.config import submission as submission_module
from posthouse.config import transports as transports_module
from posthouse.config.destinations import Destination
from posthouse.config.filtering import FilterSettings
from posthouse.config.milters import Milter
from posthouse.config.relays import RelayHost
from posthouse.config.settings import Settings
from posthouse.config.transports import Transport

_INTRODUCTION = """\
# Settings

Posthouse needs no configuration file. `--config FILE` or `POSTHOUSE_CONFIG` names one, in TOML; `--data DIR` or
`POSTHOUSE_DATA` overrides `data_dir`. Unknown keys are errors. Domains, accounts and aliases are not here: they
live in the database.

This page is generated: `posthouse config reference > docs/settings.md`.
"""
_MODULES = (
    settings_module,
    mail_module,
    reception_module,
    transports_module,
    relays_module,
    destinations_module,
    rewriting_module,
    filtering_module,
    milters_module,
    submission_module,
)
_NAMED: dict[Any, type] = {
    dict[str, Transport]: Transport,
    dict[str, FilterSettings]: FilterSettings,
    dict[str, Milter]: Milter,
    dict[str, RelayHost]: RelayHost,
    dict[str, Destination]: Destination,
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*@")


def reference() -> str:
    """Every setting in Markdown."""
    docs = _attribute_docs()
    sections = [_INTRODUCTION, "## Top level\n", *_entries(Settings, docs)]
    for kind, names in _tables(Settings).items():
        title = ", ".join(f"[{name}]" for name in names)
        sections += [f"## {title}\n", f"{inspect.getdoc(kind)}\n", *_entries(kind, docs)]
    return "\n".join(sections)


def _tables(kind: type, prefix: str = "") -> dict[type, list[str]]:
    """The tables of the configuration below ``kind``, in order, each with the names it goes by."""
    tables: dict[type, list[str]] = {}
    for name, hint in get_type_hints(kind).items():
        if hint in _NAMED:
            tables.setdefault(_NAMED[hint], []).append(f"{prefix}{name}.NAME")
        elif dataclasses.is_dataclass(hint):
            table = cast("type", hint)
            tables.setdefault(table, []).append(prefix + name)
            for inner, names in _tables(table, f"{prefix}{name}.").items():
                tables.setdefault(inner, []).extend(names)
    return tables


def _entries(kind: type, docs: dict[tuple[str, str], str]) -> list[str]:
    return [
        f"- **`{field.name}`**{_default(field.default)}: {docs[kind.__name__, field.name]}\n"
        for field in dataclasses.fields(kind)
        if (kind.__name__, field.name) in docs
    ]


def _default(value: object) -> str:
    """The default where the dataclass has it; the docstring says it where it depends on the machine."""
    return "" if value in ("", ()) else f" = `{_toml(value)}`"


def _attribute_docs() -> dict[tuple[str, str], str]:
    """(class, attribute) to the string that follows the attribute."""
    docs: dict[tuple[str, str], str] = {}
    source = "".join(map(inspect.getsource, _MODULES))
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, following in zip(node.body, node.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                name = cast("ast.Name", statement.target).id
                docs[node.name, name] = str(cast("ast.Constant", following.value).value)
    return docs


def as_dict(settings: Settings) -> dict[str, Any]:
    """The effective settings, passwords hidden, ready for JSON."""
    values = dataclasses.asdict(settings)
    values["database"]["url"] = _PASSWORD.sub(r"\1:***@", settings.database.url)
    return values


def as_toml(settings: Settings) -> str:
    """The effective settings as a configuration file, passwords hidden."""
    return "\n".join(_table_lines(as_dict(settings), "")) + "\n"


def _table_lines(values: dict[str, Any], prefix: str) -> list[str]:
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, value in values.items():
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            path = prefix + (name if _BARE_KEY.fullmatch(name) else _toml(name))
            lines += ["", f"[{path}]", *_table_lines(inner, f"{path}.")]
    return lines


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in cast("tuple[object, ...]", value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
