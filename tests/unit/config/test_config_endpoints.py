"""Addresses to listen on that have rules of their own."""

import pytest

from posthouse.config.checks import CHECKS
from posthouse.config.endpoints import Endpoint, parse_map_endpoint


def test_an_address_for_tcp_table_names_its_map():
    assert parse_map_endpoint("virtual=127.0.0.1:2526") == ("virtual", Endpoint("127.0.0.1", 2526))
    assert CHECKS["listen.tcp_table"]("senders=[::1]:2526") == ""


@pytest.mark.parametrize("text", ["127.0.0.1:1", "nothing=127.0.0.1:1", "virtual=unix:/run/x", "virtual=127.0.0.1"])
def test_what_is_no_address_for_tcp_table_is_told_what_is(text):
    assert "MAP=127.0.0.1:PORT" in CHECKS["listen.tcp_table"](text)


@pytest.mark.parametrize("name", ["dovecot_auth", "saslauthd", "socketmap", "tcp_table"])
def test_who_is_who_is_not_told_to_the_network(name):
    address = "virtual=192.0.2.1:2526" if name == "tcp_table" else "192.0.2.1:2526"
    assert "this host only" in CHECKS[f"listen.{name}"](address)
