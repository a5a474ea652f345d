"""The command line: one file a noun, which parses, calls the service, and prints."""
