"""Filters: what looks at a message before it is taken in, and what comes of it."""
