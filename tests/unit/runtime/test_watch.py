"""inotify on real directories."""

import asyncio
import os

from posthouse.runtime.watch import Watch


def test_every_subscriber_hears_of_a_change_and_nobody_after_cancelling(tmp_path):
    async def main():
        watch = Watch()
        heard: list[str] = []
        event = asyncio.Event()
        first = watch.subscribe(str(tmp_path), lambda: heard.append("first"))
        watch.subscribe(str(tmp_path), lambda: (heard.append("second"), event.set()))
        (tmp_path / "a").touch()
        await event.wait()
        assert set(heard) == {"first", "second"}
        first.cancel()
        while heard.count("second") < 2:  # the close of the first file may still be on its way
            os.rename(tmp_path / "a", tmp_path / "b")
            os.rename(tmp_path / "b", tmp_path / "a")
            await asyncio.sleep(0)
        heard.clear()
        event.clear()
        os.unlink(tmp_path / "a")
        await event.wait()
        assert "first" not in heard
        watch.close()

    asyncio.run(main())


def test_a_subscriber_that_fails_does_not_silence_the_others(tmp_path):
    async def main():
        watch = Watch()
        event = asyncio.Event()
        watch.subscribe(str(tmp_path), lambda: 1 / 0)
        watch.subscribe(str(tmp_path), event.set)
        (tmp_path / "a").touch()
        await event.wait()
        watch.close()

    asyncio.run(main())


def test_a_directory_that_is_removed_is_announced(tmp_path):
    async def main():
        watch = Watch()
        event = asyncio.Event()
        gone = tmp_path / "folder"
        gone.mkdir()
        subscription = watch.subscribe(str(gone), event.set)
        gone.rmdir()
        await event.wait()
        subscription.cancel()
        watch.close()

    asyncio.run(main())


def test_who_watches_for_some_names_hears_of_no_others(tmp_path):
    async def main():
        watch = Watch()
        heard: list[str] = []
        event, other = asyncio.Event(), asyncio.Event()
        watch.subscribe(str(tmp_path), lambda: (heard.append("a"), event.set()), only=lambda name: name == "a")
        watch.subscribe(str(tmp_path), other.set, only=lambda name: name == "c")
        for name in ("b", "c"):
            (tmp_path / name).touch()
        await other.wait()
        assert heard == []
        (tmp_path / "a").touch()
        await event.wait()
        watch.close()

    asyncio.run(main())
