"""socketmap: how Postfix and Sendmail look things up in another program."""
