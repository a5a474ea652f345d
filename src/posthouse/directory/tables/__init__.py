"""Rows of the directory's tables as services read and write them, within one transaction.

Only ``Directory.read`` and ``Directory.change`` make these, and import this: it needs SQLAlchemy, which mail workers
don't. The values that go in and out are in ``directory.records``.
"""

from posthouse.directory.tables.accounts import AccountRows
from posthouse.directory.tables.auditing import AuditRows
from posthouse.directory.tables.domains import DomainRows
from posthouse.directory.tables.keyed import KeyedRows


class Tables(KeyedRows, AccountRows, DomainRows, AuditRows):
    """The tables over one transaction, in the name of one actor."""
