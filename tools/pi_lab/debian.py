"""Debian arm64 without installing it: packages by apt into a folder, unpacked and nothing more.

apt works on a state of its own, as whoever calls: this machine's packages are neither looked at nor touched. No script
of a package runs, because none of them could: they are arm64's. So what such scripts would have made is made here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools.pi_lab.host import KEYRING, LabError, run

_SITE_VARIABLE = "PI_LAB_MIRROR"
_LIBRARIES = Path("usr/lib/aarch64-linux-gnu")
# Python, what compiled wheels link to, a shell with its programs, and the one program that the first process needs.
_BASE = ("python3", "libstdc++6", "libatomic1", "dash", "coreutils", "busybox-static")
_ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000:pi:/home/pi:/bin/sh\n",
    "group": "root:x:0:\nvideo:x:44:pi\npi:x:1000:\n",
    "hosts": "127.0.0.1 localhost\n",
    "hostname": "pi-lab\n",
}


def mirror() -> str:
    """Return the address from which this machine takes its own Debian packages, or that of `PI_LAB_MIRROR`.

    Raises:
        LabError: apt knows none.
    """
    if os.environ.get(_SITE_VARIABLE):
        return os.environ[_SITE_VARIABLE].rstrip("/")
    rows = run(["apt-get", "indextargets", "--format", "$(SITE)|$(COMPONENT)|$(CODENAME)", "Created-By: Packages"])
    return choose_mirror(rows.splitlines())


def choose_mirror(rows: Iterable[str]) -> str:
    """Return the address of Debian's main archive among apt's sources.

    Args:
        rows: "address|component|suite" each.

    Raises:
        LabError: None of them is one.
    """
    for row in rows:
        address, component, suite = row.split("|")
        if address.endswith("/debian") and component == "main" and "security" not in suite:
            return address
    raise LabError(f"apt's sources name no Debian archive.\nTo name one: export {_SITE_VARIABLE}=http://HOST/debian")


class Archive:
    """Debian's arm64 packages of one release.

    Args:
        suite: Debian's name of the release.
        folder: For apt's state and the downloaded packages.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        self._packages = folder / "cache" / "archives"
        for place in (folder / "state" / "lists" / "partial", self._packages / "partial"):
            place.mkdir(parents=True)
        (folder / "state" / "status").touch()
        (folder / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYRING}] {mirror()} {suite} main\n")
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "state" / "status",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        run(["apt-get", *self._options, "-qq", "update"])

    def system(self, packages: Iterable[str], root: Path) -> None:
        """Make a system of Python and these packages, with all that they depend on, in the folder `root`."""
        names = [*_BASE, *packages]
        run(["apt-get", *self._options, "-qq", "-y", "--no-install-recommends", "--download-only", "install", *names])
        _lay_ground(root)
        for package in sorted(self._packages.glob("*.deb")):
            _unpack(package, root)
        _finish(root)

    def kernel(self, folder: Path) -> None:
        """Unpack Debian's own kernel of the release, and nothing of what it depends on."""
        rows = run(["apt-cache", *self._options, "depends", "linux-image-arm64"]).split()
        name = next(
            word for word in rows if word.startswith("linux-image-") and word.endswith("-arm64") and "." in word
        )
        folder.mkdir()
        run(["apt-get", *self._options, "-qq", "download", name], cwd=folder)
        (package,) = folder.glob("*.deb")
        _lay_ground(folder)
        _unpack(package, folder)
        package.unlink()


def _lay_ground(root: Path) -> None:
    """Make the links from the old folders into /usr, before the first package lays a file through them."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _unpack(package: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        command = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", f"--directory={root}"]
        writer = subprocess.run(command, stdin=reader.stdout, capture_output=True, text=True, check=False)
    if reader.returncode or writer.returncode:
        raise LabError(f"{package.name} could not be unpacked: {writer.stderr.strip()}")


def _finish(root: Path) -> None:
    """Make what Debian's scripts would have made: places to mount, accounts, and the links of alternatives."""
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "home/pi", "luggage", "out", "bytecode"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in _ACCOUNTS.items():
        (root / "etc" / name).write_text(text)
    if not (root / "bin" / "sh").exists():
        (root / "bin" / "sh").symlink_to("dash")
    for library in ("blas", "lapack"):
        if (root / _LIBRARIES / library / f"lib{library}.so.3").exists():
            (root / _LIBRARIES / f"lib{library}.so.3").symlink_to(f"{library}/lib{library}.so.3")
