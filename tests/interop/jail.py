"""A Debian package in a directory of its own: unpacked, not installed, and run in there by chroot(8).

Mail servers exclude each other as packages, have users and paths built in, and would be started. In here each has its
own /etc, /var and users, and the host's are untouched.
"""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

PASSWD = "root:x:0:0::/:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\nnobody:x:65534:65534::/nonexistent:/bin/false\n"
GROUP = "root:x:0:\nmail:x:8:\nnogroup:x:65534:\n"
FIRST_UID = 990


def unpack(package: str, program: str, directory: Path, users: Sequence[str]) -> Path:
    """The package, what it depends on, and the libraries of its ``program``; ``directory`` is the root to be.

    Where that can't be done the test is skipped with one line, and fails where ``CI=true``.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _give_up(f"{package} is unpacked by root, from Debian's archive")
    archives = directory.with_name(f"{directory.name}-archives")
    (archives / "partial").mkdir(parents=True)
    if _download(package, archives) != 0:
        subprocess.run(
            ["apt-get", "update", "-qq"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if _download(package, archives) != 0:
            _give_up(f"{package} can't be had from Debian's archive")
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(directory)], check=True, timeout=60)
    _furnish(directory, users)
    _add_libraries(directory, directory / program)
    return directory


def _download(package: str, archives: Path) -> int:
    """Only that; --reinstall: also where the host has it."""
    command = ["apt-get", "install", "--download-only", "--reinstall", "-qq", "-y", "--no-install-recommends"]
    command += ["-o", f"Dir::Cache::archives={archives}", "-o", "APT::Sandbox::User=root", package]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    code = subprocess.run(command, check=False, timeout=300, **quiet).returncode
    return code if any(archives.glob("*.deb")) else 1


def _furnish(root: Path, users: Sequence[str]) -> None:
    for name in ("etc", "dev", "tmp", "var/tmp", "var/spool", "run", "lib64"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if not (root / "var/run").exists():
        (root / "var/run").symlink_to("../run")
    accounts = [(name, FIRST_UID + number) for number, name in enumerate(users)]
    (root / "etc/passwd").write_text(
        PASSWD + "".join(f"{name}:x:{uid}:{uid}::/run:/bin/false\n" for name, uid in accounts)
    )
    (root / "etc/group").write_text(GROUP + "".join(f"{name}:x:{uid}:\n" for name, uid in accounts))
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    for name, minor in (("null", 3), ("urandom", 9)):
        try:
            os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            (root / "dev" / name).chmod(0o666)
        except PermissionError:  # a container that may not; a file will do for what is thrown away
            (root / "dev" / name).touch(0o666)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)


def _add_libraries(root: Path, program: Path) -> None:
    own = ":".join(sorted({str(path.parent) for path in root.rglob("*.so.*")}))
    said = subprocess.run(
        ["ldd", str(program)], env={**os.environ, "LD_LIBRARY_PATH": own}, capture_output=True, text=True, check=True
    ).stdout
    for library in re.findall(r"(/\S+) \(0x", said):
        if not library.startswith(str(root)):
            place = root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)


def _give_up(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
