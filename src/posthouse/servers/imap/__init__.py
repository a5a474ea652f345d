"""IMAP: the session that drives the engine, and a handler for each command."""
