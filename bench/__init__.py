"""Posthouse beside Postfix and Dovecot, measured in one run: ``make bench``, or ``python -m bench --help``.

Standard library only, and nothing of Posthouse is imported: it is driven as its users drive it, by its program,
its configuration file, its SQL tables and its ports.
"""
