"""The configuration: what it takes to start. Domains, accounts and their limits live in SQL."""
