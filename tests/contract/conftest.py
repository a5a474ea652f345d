"""One suite over all three databases."""

from dataclasses import replace

import pytest

from posthouse.config.settings import Database, Settings


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database(request, tmp_path) -> Settings:
    """Settings whose database is empty and for this test alone."""
    settings = Settings(hostname="mail.example.test", data_dir=str(tmp_path))
    if request.param == "sqlite":
        return settings
    return replace(settings, database=Database(url=request.getfixturevalue(request.param).url))
