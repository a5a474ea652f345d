"""Milters: programs of others that are told of each SMTP session and message, and judge and change them."""
