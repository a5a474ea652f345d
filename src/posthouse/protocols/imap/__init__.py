"""IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) as a sans-IO engine: parsing, states, and the rendering of what a server says."""
