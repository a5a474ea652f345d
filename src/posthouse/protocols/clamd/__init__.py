"""clamd's protocol."""
