"""The composition root: configuration in, wired processes out. No logic lives here."""
