"""Posthouse: a whole ISP mail host in one program."""

__version__ = "0.1.0"
