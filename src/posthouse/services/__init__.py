"""The use cases: what the protocols' sessions, the CLI and the web interface do, each in one place."""
