"""POP3 (RFC 1939): the server's engine, without I/O."""
