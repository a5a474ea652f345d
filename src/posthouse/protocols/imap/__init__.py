"""IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051) as a sans-IO engine: parsing, states, and how a server speaks."""
