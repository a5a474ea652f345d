"""Dovecot's auth protocol: how Postfix and Exim ask another program whether a client may log in."""
