"""Where the servers' data lie during a run: a temporary directory, or a fresh ext4 file system in an image file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench import servers

IMAGE_BYTES = 24 << 30
BYTES_PER_INODE = 8_192


@contextmanager
def place(*, loop: bool, keep: bool) -> Iterator[str]:
    """A directory that everybody may pass through, gone afterwards unless ``keep``.

    ``loop``: on an ext4 image of its own, so that both servers find a new, empty file system. The image is sparse;
    it takes as much of the disk as is written.
    """
    directory = tempfile.mkdtemp(prefix="posthouse-bench-")
    os.chmod(directory, 0o755)
    mounted = ""
    try:
        if loop:
            mounted = os.path.join(directory, "disk")
            _mount(os.path.join(directory, "image"), mounted)
        yield mounted or directory
    finally:
        if keep:
            print(f"kept: {mounted or directory}" + (f" (umount {mounted} when done)" if mounted else ""))
        else:
            if mounted and os.path.ismount(mounted):
                servers.run("umount", mounted)
            shutil.rmtree(directory)


def missing_for_loop() -> str:
    """Why ``--loop`` can't be had here; empty if it can."""
    if os.geteuid() != 0:
        return "--loop mounts a file system: only root can"
    for program in ("losetup", "mkfs.ext4", "mount"):
        if not shutil.which(program):
            return f"--loop needs {program}"
    return ""


def _mount(image: str, directory: str) -> None:
    os.mkdir(directory)
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    # Tables that are written later, in the background, would be written during the measurements.
    later = "lazy_itable_init=0,lazy_journal_init=0"
    servers.run("mkfs.ext4", "-q", "-F", "-i", str(BYTES_PER_INODE), "-E", later, image)
    servers.run("mount", "-o", "loop", image, directory)
    os.chmod(directory, 0o755)
