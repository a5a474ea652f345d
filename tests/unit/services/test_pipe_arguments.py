"""services/deliveryprocess.py: what a pipe's program is called with."""

from posthouse.config.transports import Transport, built_in
from posthouse.services.deliveryprocess import expanded

VALUES = {
    "recipient": "joe+x@hub.test",
    "user": "joe",
    "extension": "x",
    "domain": "hub.test",
    "mailbox": "joe+x",
    "nexthop": "hub",
    "sender": "you@example.org",
    "size": "7",
}


def test_maildrop_and_uucp_are_called_as_debian_has_them():
    assert expanded(built_in()["maildrop"], VALUES) == [
        "/usr/bin/maildrop", "-d", "joe@hub.test", "-f", "you@example.org",
    ]  # fmt: skip
    assert expanded(built_in()["uucp"], VALUES) == [
        "/usr/bin/uux", "-r", "-n", "-z", "-ayou@example.org", "-", "hub!rmail", "(joe+x@hub.test)",
    ]  # fmt: skip


def test_a_value_that_would_be_an_option_is_not_handed_over():
    transport = Transport(("/bin/echo", "${user}", "-x${user}", "$$"), user="games")
    assert expanded(transport, VALUES) == ["/bin/echo", "joe", "-xjoe", "$"]
    assert expanded(transport, VALUES | {"user": "-rf"}) is None
