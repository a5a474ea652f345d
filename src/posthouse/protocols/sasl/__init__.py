"""SASL (RFC 4422): the mechanisms, server's and client's side, without I/O. Nonces and secrets are passed in."""
