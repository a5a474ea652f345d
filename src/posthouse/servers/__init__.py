"""The asyncio drivers of the protocol engines: one session object a connection."""
