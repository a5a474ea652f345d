"""Messages: addresses, headers, MIME structure, delivery reports. Pure: no I/O, no clock."""
