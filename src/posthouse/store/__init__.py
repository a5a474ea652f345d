"""The mail store: Maildir++ directories with an SQLite index beside them.

Who uses it sees accounts, mailboxes, views and messages, never file names. The Maildir is the truth about
messages and flags, ``dovecot-uidlist`` about UIDs; the index makes both fast and may be lost at any time.
"""
