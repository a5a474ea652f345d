"""An LDAP client without I/O: as much of LDAPv3 as checking a password takes (RFC 4511)."""
