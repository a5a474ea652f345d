"""swaks sends as a login of ours: as what it may, as much as it may, with its blind copies and address left out."""

import json
import smtplib

import pytest
from tests.interop.house import House, run
from tests.interop.sink import Sink

ALICE, BOB, CAROL, BOSS = (f"{name}@example.test" for name in ("alice", "bob", "carol", "boss"))


@pytest.fixture(scope="module")
def outside():
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory, outside):
    settings = (
        f'[smtp]\nrelayhost = "[127.0.0.1]:{outside.port}"\n'
        f'[submission]\nhide_client = true\ntell = "{BOSS}"\n[submission.account]\nmessages_per_hour = 1000\n'
    )
    running = House(tmp_path_factory.mktemp("limits"), settings)
    running.cli("domain", "add", "example.test")
    for address in (ALICE, BOB, CAROL, BOSS):
        running.add_account(address)
    running.start()
    yield running
    code = running.stop()
    assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


@pytest.fixture
def swaks(need, house):
    def send(login, *options, sender="", to="far@else.example", code=0):
        server = f"127.0.0.1:{house.ports['submission']}"
        given = ["--server", server, "-tls", "--auth", "PLAIN", "--auth-user", login, "--auth-password", "secret"]
        return run(need("swaks"), *given, "--from", sender or login, "--to", to, *options, code=code)

    return send


def told(house, about):
    return [mail for mail in house.messages(BOSS) if f"Subject: {about} has".encode() in mail]


def test_a_login_sends_as_what_it_was_granted(house, swaks):
    assert "553 5.7.1 Sender address rejected" in swaks(ALICE, sender="news@customer.example", code=23)
    house.cli("account", "sender", "add", ALICE, "@customer.example")
    swaks(ALICE, sender="news@customer.example")
    assert json.loads(house.cli("account", "sender", "list", "--json").stdout) == [
        {"login": ALICE, "sender": "@customer.example"}
    ]
    house.cli("account", "sender", "remove", ALICE, "@customer.example")
    assert "553 5.7.1" in swaks(ALICE, sender="news@customer.example", code=23)


def test_who_is_over_the_limit_is_refused_for_now_and_the_operator_is_told_once(house, swaks):
    house.cli("account", "limits", ALICE, "--recipients-per-hour", "3", "--over-limit", "refuse")
    house.cli("limits", "clear", ALICE)
    swaks(ALICE, to=f"{BOB},{CAROL}")
    both = f"{BOB},{CAROL}"
    said = swaks(ALICE, to=both, code=None)
    assert f"452 4.7.1 Sending limit of {ALICE} reached: 3 recipients an hour; try again in" in said
    assert "250 2.0.0" in said  # for the one recipient that there was room for
    for _ in range(2):
        assert "452 4.7.1 Sending limit" in swaks(ALICE, code=24)
    house.cli("account", "limits", ALICE, "--messages-per-hour", "2")
    assert f"450 4.7.1 Sending limit of {ALICE} reached: 2 messages an hour" in swaks(ALICE, code=23)
    (notice,) = told(house, ALICE)
    assert b"has sent 2 of the 3 recipients that are allowed in this hour" in notice.replace(b"\r\n", b" ")
    listed = json.loads(house.cli("limits", "list", "--json").stdout)
    assert {"name": ALICE, "kind": "recipients", "span": "hour", "used": 3, "most": 3} in listed
    assert house.cli("limits", "clear", ALICE).stdout == f"{ALICE} begins anew\n"
    swaks(ALICE)


def test_what_is_over_the_limit_is_held_shown_and_released(house, swaks, outside):
    house.cli("account", "limits", BOB, "--new-recipients-per-day", "1", "--over-limit", "hold")
    swaks(BOB, to="first@else.example")
    swaks(BOB, to="first@else.example")
    swaks(BOB, to=f"second@else.example,{CAROL}", code=0)
    shown = house.cli("queue", "list", "--state", "hold").stdout
    assert f"450 4.7.1 Sending limit of {BOB} reached: 1 new recipients a day; held" in shown
    held = json.loads(house.cli("queue", "list", "--state", "hold", "--json").stdout)
    assert [[one["address"] for one in message["recipients"]] for message in held] == [["second@else.example", CAROL]]
    assert not outside.taken_for("second@else.example")
    assert len(told(house, BOB)) == 1
    before = len(house.messages(CAROL))
    house.cli("queue", "release", held[0]["id"])
    deadline_passed = house.wait_for("delivered", trace=held[0]["id"], recipient="second@else.example")
    assert deadline_passed
    house.wait_for("delivered", trace=held[0]["id"], recipient=CAROL)
    assert outside.taken_for("second@else.example")
    assert len(house.messages(CAROL)) == before + 1


def test_blind_copies_and_the_client_are_left_out(house, swaks, tmp_path):
    message = (
        b"From: <%b>\r\nTo: them\r\nBcc: <carol@example.test>,\r\n <secret@else.example>\r\nSubject: x\r\n"
        b"Resent-Bcc: other\r\n\r\nBcc: stays in the text\r\n" % CAROL.encode()
    )
    large = message + b"0123456789 the quick brown fox\r\n" * 20_000
    for data in (message, large):
        with house.submission(CAROL) as session:
            session.ehlo("my-laptop.lan")
            session.sendmail(CAROL, [BOSS], data)
        arrived = house.messages(BOSS)[-1]
        head, _, body = arrived.partition(b"\r\n\r\n")
        assert b"bcc" not in head.lower()
        assert b"secret" not in head
        assert (b"From: <%b>\r\nTo: them\r\nSubject: x" % CAROL.encode()) in head
        assert body == data.partition(b"\r\n\r\n")[2]
        assert b"my-laptop" not in head
        assert b"127.0.0.1" not in head
        assert b"Received: by mail.example.test with ESMTPSA" in head
    # Whoever is no user of ours is named as ever, and their fields stay.
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"], "stranger.example", timeout=30) as session:
        session.sendmail("x@else.example", [BOSS], message)
    arrived = house.messages(BOSS)[-1]
    assert b"\r\nBcc: <carol@example.test>,\r\n" in arrived
    assert b"from stranger.example ([127.0.0.1])" in arrived
