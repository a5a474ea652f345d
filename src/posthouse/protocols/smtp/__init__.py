"""SMTP (RFC 5321) and LMTP (RFC 2033), both sides, with the extensions that mail needs today."""
