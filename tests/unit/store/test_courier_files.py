"""store/courier.py: what Courier wrote, whole and damaged."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.store.conftest import Foreign

from posthouse.store import courier, uidlist
from posthouse.store.layout import Folder, make_folder
from posthouse.store.model import Want

NAMES = [f"170000000{number}.M{number}P1V0.host,S=73" for number in range(5)]


@pytest.fixture
def maildir(post):
    """Of somebody whom Courier served: five messages, the third expunged."""
    make_folder(Folder(post.path, ""))
    foreign = Foreign(post.path)
    for name in NAMES:
        foreign.deliver(place="cur", info=":2,S", base=name)
    foreign.delete(NAMES[2])
    with open(f"{post.path}/courierimapuiddb", "w") as file:
        file.write("1 795787613 12\n" + "".join(f"{2 * n + 1} {name}\n" for n, name in enumerate(NAMES)))
    return post.path


def bases(post, view):
    paths = dict(post.fetch(view, Want.DATE, lambda m: (m.uid, m.entry.path)))
    return {uid: path[4:].partition(":")[0] for uid, path in paths.items()}


def test_uids_and_uidvalidity_are_couriers(post, maildir):
    post.foreign.deliver(base="1700000099.M9P1.host")
    view = post.select()
    assert (view.uidvalidity, list(view.uids), view.uidnext) == (795787613, [1, 3, 7, 9, 12], 13)
    assert {bases(post, view)[uid] for uid in (1, 3, 7, 9)} == {*NAMES[:2], *NAMES[3:]}
    assert view.recent == 1, "Courier's users have seen the others"


def test_what_was_taken_over_is_not_read_again(post, maildir):
    post.select()
    with open(f"{maildir}/courierimapuiddb", "w") as file:
        file.write("1 1 1\n")
    os.unlink(f"{maildir}/posthouse.index")
    store = post.restarted()
    view = post.run(store.account("example.org/bob/").select("INBOX"))
    assert (view.uidvalidity, list(view.uids)) == (795787613, [1, 3, 7, 9])
    store.close()


def test_keywords_go_into_names_newest_first(post, maildir):
    os.mkdir(f"{maildir}/courierimapkeywords")
    files = {
        ":list": f"Old\nHoliday\n\n{NAMES[0]}:0 1\n{NAMES[1]}:1\n{NAMES[3]}:0 7 x\n",
        f".20.{NAMES[1]}": "Later\nHoliday\n",
        f".3.{NAMES[1]}": "Earlier\n",
        NAMES[3]: "",
        "gone": "Holiday\n",
    }
    for name, text in files.items():
        with open(f"{maildir}/courierimapkeywords/{name}", "w") as file:
            file.write(text)
    view = post.select()
    flags = dict(post.fetch(view, Want.FLAGS, lambda m: (m.uid, m.flags - {"\\Recent"})))
    assert flags == {
        1: {"\\Seen", "Old", "Holiday"},
        3: {"\\Seen", "Later", "Holiday"},
        7: {"\\Seen"},
        9: {"\\Seen"},
    }


@pytest.mark.parametrize("version", [2, 3])
def test_unique_ids_are_couriers_and_outlive_index_and_uidlist(post, maildir, version):
    rest = ":0" if version == 3 else ""
    with open(f"{maildir}/courierpop3dsizelist", "w") as file:
        file.write(f"/{version} 9 1700\n{NAMES[0]}:2,S 99 1:1600{rest}\n{NAMES[1]}:2, 99 2:0{rest}\n")
        file.write(f"{NAMES[3]}:2, 99 0:0{rest}\nhalf a line\n{NAMES[4]}:2, 99 1:1600{rest}\n")
    # The first and the last have the same unique id, which can only be one's.
    wanted = {9: "UID1-1600", 3: "UID2", 7: NAMES[3]}
    assert post.run(post.select().uidls()) == wanted
    for name in ("dovecot-uidlist", "posthouse.index"):
        os.unlink(f"{maildir}/{name}")
        assert post.run(post.select().uidls()) == wanted
    listed = uidlist.read(f"{maildir}/dovecot-uidlist")
    assert listed.uidls == {NAMES[4]: "UID1-1600", NAMES[1]: "UID2", NAMES[3]: NAMES[3]}


def test_who_used_pop3_only_keeps_his_unique_ids(post, maildir):
    os.unlink(f"{maildir}/courierimapuiddb")
    with open(f"{maildir}/courierpop3dsizelist", "w") as file:
        file.write(f"/3 9 1700\n{NAMES[3]}:2,S 99 8:1700:0\n")
    view = post.select()
    assert list(view.uids) == [1, 2, 3, 4]
    assert post.run(view.uidls()) == {3: "UID8-1700"}


def test_a_list_that_courier_itself_would_not_read_is_left_alone(post, maildir):
    with open(f"{maildir}/courierpop3dsizelist", "w") as file:
        file.write(f"{NAMES[3]}:2,S 8\n")
    assert post.run(post.select().uidls()) == {}


def test_folders_that_courier_named_in_utf_8_are_mailboxes(post, maildir):
    for name in ("Entwürfe", "A&B", "日本語.Kind"):
        make_folder(Folder(f"{maildir}/.{name}", f".{name}"))
    with open(f"{maildir}/courierimapsubscribed", "w") as file:
        file.write("INBOX\nINBOX.Entwürfe\nINBOX.&ZeVnLIqe-.Kind\n#shared.x\nINBOX.a..b\n")
    post.append("Entwürfe")
    listed = {box.name: box for box in post.run(post.account.mailboxes()) if box.selectable}
    assert {name for name, box in listed.items() if box.subscribed} == {"INBOX", "Entwürfe", "日本語.Kind"}
    assert set(listed) == {"INBOX", "A&B", "Entwürfe", "日本語.Kind"}
    assert list(post.select("Entwürfe").uids) == [1]
    assert os.listdir(f"{maildir}/.Entwürfe/cur")
    path = post.deliver(folder="A&B")
    assert path.startswith(f"{maildir}/.A&B/new/")
    post.run(post.account.rename("日本語", "Reise"))
    post.run(post.account.delete("A&B"))
    post.run(post.account.unsubscribe("INBOX"))
    names = {box.name: box.subscribed for box in post.run(post.account.mailboxes())}
    assert names == {"INBOX": False, "Entwürfe": True, "Reise": False, "Reise.Kind": False, **names}
    assert "A&B" not in names


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_octets_are_read_without_harm(tmp_path_factory, uids, uidls, keywords):
    folder = Folder(str(tmp_path_factory.mktemp("maildir")), "")
    os.mkdir(f"{folder.path}/courierimapkeywords")
    for name, data in (
        ("courierimapuiddb", b"1 7 9\n" + uids),
        ("courierpop3dsizelist", b"/3 1 1\n" + uidls),
        ("courierimapkeywords/:list", b"a\nb\n\n" + keywords),
        ("courierimapsubscribed", b"INBOX." + uids),
    ):
        with open(f"{folder.path}/{name}", "wb") as file:
            file.write(data)
    legacy = courier.read(folder)
    assert len(set(legacy.uids.values())) == len(legacy.uids)
    assert legacy.uidnext > max(legacy.uids.values(), default=0)
    assert len(set(legacy.uidls.values())) == len(legacy.uidls)
    courier.subscriptions(folder.path)


def test_a_uidlist_of_version_1_is_taken_over(post):
    make_folder(Folder(post.path, ""))
    for name in NAMES[:2]:
        post.foreign.deliver(place="cur", info=":2,S", base=name)
    with open(f"{post.path}/dovecot-uidlist", "w") as file:
        file.write(f"1 1234 9\n4 {NAMES[0]}:2,S\n8 {NAMES[1]}:2,\n")
    view = post.select()
    assert (view.uidvalidity, list(view.uids), view.uidnext) == (1234, [4, 8], 9)
    assert uidlist.read(f"{post.path}/dovecot-uidlist").is_old is False
