"""The exclusive lock that a POP3 session holds on its maildrop (RFC 1939 §4)."""


class MaildropLock:
    def close(self) -> None:
        raise NotImplementedError
