"""Debian without installing it: packages by apt into a folder, unpacked and nothing more.

apt works on a state of its own, as whoever calls: this machine's packages are neither looked at nor touched. No script
of a package runs: they are for another processor. So what such scripts would have made is made here.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools.pi_lab.host import KEYRING, LabError, run

_SITE_VARIABLE = "PI_LAB_MIRROR"
# Python, and what compiled wheels link to.
_BASE = ("python3", "libstdc++6", "libatomic1")
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
    """Debian's packages of one release, for one kind of processor.

    Args:
        suite: Debian's name of the release.
        architecture: Debian's name of the kind of processor.
        folder: For apt's state and the downloaded packages.
    """

    def __init__(self, suite: str, architecture: str, folder: Path) -> None:
        self._packages = folder / "cache" / "archives"
        for place in (folder / "state" / "lists" / "partial", self._packages / "partial"):
            place.mkdir(parents=True)
        (folder / "state" / "status").touch()
        (folder / "sources.list").write_text(f"deb [arch={architecture} signed-by={KEYRING}] {mirror()} {suite} main\n")
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
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
        _lay_ground(folder)
        self._unpack_one(name, folder)

    def take(self, package: str, path: str, target: Path) -> None:
        """Take one file out of a package, and nothing of what it depends on.

        Args:
            package: Its name.
            path: Of the file within it, e.g. "usr/bin/busybox".
            target: Where it goes.

        Raises:
            LabError: There is no such package, or the file is not in it.
        """
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            self._unpack_one(package, Path(folder), path)
            (Path(folder) / path).rename(target)

    def _unpack_one(self, name: str, folder: Path, *paths: str) -> None:
        run(["apt-get", *self._options, "-qq", "download", name], cwd=folder)
        (package,) = folder.glob("*.deb")
        _unpack(package, folder, *paths)
        package.unlink()


def _lay_ground(root: Path) -> None:
    """Make the links from the old folders into /usr, before the first package lays a file through them."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _unpack(package: Path, root: Path, *paths: str) -> None:
    """Unpack a package, or only these files of it."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        command = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", f"--directory={root}"]
        command += [f"./{path}" for path in paths]
        writer = subprocess.run(command, stdin=reader.stdout, capture_output=True, text=True, check=False)
    if reader.returncode or writer.returncode:
        raise LabError(f"{package.name} could not be unpacked: {writer.stderr.strip()}")


def _finish(root: Path) -> None:
    """Make what Debian's scripts would have made: places to mount, accounts, and the links of alternatives."""
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "home/pi", "luggage", "out", "bytecode"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in _ACCOUNTS.items():
        (root / "etc" / name).write_text(text)
    if (root / "bin" / "dash").exists() and not (root / "bin" / "sh").exists():
        (root / "bin" / "sh").symlink_to("dash")
    for library in ("blas", "lapack"):
        for chosen in (root / "usr" / "lib").glob(f"*/{library}/lib{library}.so.3"):
            (chosen.parents[1] / chosen.name).symlink_to(f"{library}/{chosen.name}")
