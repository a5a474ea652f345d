"""What every server process runs on: supervisor, sockets, connections, log, resolver, directory watch."""
