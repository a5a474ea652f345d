"""One file a command, or a pair that differs in a word.

A handler takes the session and the command and returns how the command ended, or None where it has been
completed already. Untagged updates and refusals by the store are the session's business, not the handlers'.
"""
