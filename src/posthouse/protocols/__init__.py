"""Protocol engines without I/O: bytes in, events out, replies in, bytes out. Pure: no I/O, no clock."""
