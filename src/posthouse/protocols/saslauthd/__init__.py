"""saslauthd's protocol: how Cyrus SASL asks another program whether a password is right."""
