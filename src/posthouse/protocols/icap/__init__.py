"""ICAP (RFC 3507): asking a scanner about content as if it were the answer of a web server."""
