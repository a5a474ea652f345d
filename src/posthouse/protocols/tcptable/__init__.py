"""tcp_table: how older versions of Postfix look things up in another program."""
