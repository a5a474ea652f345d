"""SpamAssassin's protocol between spamc and spamd (``spamd/PROTOCOL`` of its source, version 1.5)."""
