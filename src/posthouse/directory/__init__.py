"""The directory: domains, accounts and addresses in SQL, and what becomes of mail for an address."""
