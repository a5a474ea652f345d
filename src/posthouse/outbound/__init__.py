"""Mail to other hosts: where it goes (MX, next hops) and how it gets there (SMTP, LMTP)."""
