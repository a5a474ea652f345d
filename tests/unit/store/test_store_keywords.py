"""Which letter stands for which keyword."""

import os

from posthouse.store.keywords import Keywords


def test_letters_mean_nothing_any_more_where_another_process_has_deleted_the_mailbox(tmp_path):
    path = str(tmp_path / "dovecot-keywords")
    ours, theirs = Keywords(path), Keywords(path)
    mask = theirs.mask(frozenset({"Junk"}))
    ours.reload()
    assert ours.flags(mask) == {"Junk"}
    os.unlink(path)
    ours.reload()
    assert (ours.flags(mask), ours.bit("Junk")) == (set(), 0)
    theirs.reload()
    assert theirs.mask(frozenset({"work"})) == mask
    ours.reload()
    assert ours.flags(mask) == {"work"}
