"""A machine on disk: made once, kept in the cache, made anew when what defines it changes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.pi_lab import debian, initrd, userland
from tools.pi_lab.host import cache_root, run
from tools.pi_lab.machines import TEST_WHEELS, Machine

Say = Callable[[str], None]
# Where Debian's Python looks for what was not installed by apt.
_PACKAGES = "usr/local/lib/python{}/dist-packages"
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34")
# What wheels call Debian's architectures.
_PROCESSORS = {"arm64": "aarch64", "armhf": "armv7l"}
# A shell with its programs, and the one program that the first process needs.
_SHELL = ("dash", "coreutils", "busybox-static")
# The project's wheel is not part of a machine: it lies in the luggage, and this names the place.
_POINTER = "/luggage/site\n"


@dataclass(frozen=True, slots=True)
class Image:
    """A machine that can be booted.

    Attributes:
        machine: What it is.
        folder: Where its files lie.
    """

    machine: Machine
    folder: Path

    @property
    def root(self) -> Path:
        """The system."""
        return self.folder / "root"

    @property
    def kernel(self) -> Path:
        """The kernel, as qemu loads it."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial file system."""
        return self.folder / "initrd.gz"

    @property
    def bytecode(self) -> Path:
        """What Python has compiled in the guest so far: a real device has it from its installation."""
        return self.folder / "bytecode"


@contextmanager
def prepared(machine: Machine, say: Say, *, rebuild: bool = False) -> Iterator[Image]:
    """Give the machine for as long as the block lasts; nobody else uses it meanwhile.

    Args:
        machine: Which.
        say: Takes a line for people.
        rebuild: Make it anew, with the packages of today.

    Raises:
        LabError: It could not be made.
    """
    cache = cache_root()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{machine.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run has this machine: waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        image = Image(machine, cache / f"{machine.name}-{key(machine)}")
        stale = [path for path in cache.iterdir() if path.is_dir() and _name_of(path) == machine.name]
        for path in stale:  # of another definition, or left by an interruption
            if rebuild or path != image.folder:
                shutil.rmtree(path, ignore_errors=True)
        if not image.folder.exists():
            _make(image, say)
        yield image


def key(machine: Machine) -> str:
    """Return a short hash of all that makes the machine what it is: its definition, and the code that follows it."""
    definition = {name: value for name, value in asdict(machine).items() if name != "tests"}
    digest = hashlib.sha256(json.dumps([definition, TEST_WHEELS], sort_keys=True).encode())
    own = (Path(initrd.__file__), initrd.FIRST_PROCESS) if machine.kernel else (Path(userland.__file__),)
    for path in (Path(__file__), Path(debian.__file__), *own):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _name_of(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


def _make(image: Image, say: Say) -> None:
    """Make the machine in a folder beside its own, which gets its name only when all is done."""
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f"{image.machine.name}-", dir=image.folder.parent))
    try:
        say("setting up: packages of Debian")
        fresh = Image(image.machine, work)
        archive = debian.Archive(image.machine.suite, image.machine.architecture, work / "apt")
        if image.machine.kernel:
            archive.system((*_SHELL, *image.machine.debian), fresh.root)
            _make_bootable(fresh, archive, work / "kernel")
        else:
            archive.system(image.machine.debian, fresh.root)
            userland.install_emulator(fresh.root, image.machine.processor, work / "emulator")
        shutil.rmtree(work / "apt")
        say("setting up: wheels")
        _install_wheels(image.machine, fresh.root, work / "wheels")
        fresh.bytecode.mkdir()
        fresh.bytecode.chmod(0o777)
        work.chmod(0o755)
        work.rename(image.folder)
    except BaseException:  # Ctrl-C, too
        shutil.rmtree(work, ignore_errors=True)
        raise
    say(f"set up in {time.monotonic() - start:.0f} s: {image.folder}")


def _make_bootable(image: Image, archive: debian.Archive, folder: Path) -> None:
    archive.kernel(folder)
    initrd.make_initrd(folder, image.root / "bin" / "busybox", image.initrd)
    (kernel,) = (folder / "boot").glob("vmlinuz-*")
    kernel.rename(image.kernel)
    shutil.rmtree(folder)


def _install_wheels(machine: Machine, root: Path, folder: Path) -> None:
    """Install the machine's wheels for its own Python, which need not be this one, nor this processor's."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    kind = ["--only-binary=:all:", "--implementation=cp", f"--python-version={machine.python}"]
    kind += [f"--platform={name}_{_PROCESSORS[machine.architecture]}" for name in _PLATFORMS]
    held = [_empty_wheel(requirement, folder / "held") for requirement in machine.held]
    found = [f"--find-links={path.parent}" for path in held[:1]]
    run([*pip, "download", *kind, *found, f"--dest={folder}", *machine.wheels, *machine.held, *TEST_WHEELS])
    names = {path.name.partition("-")[0] for path in held}
    wheels = [path for path in sorted(folder.glob("*.whl")) if path.name.partition("-")[0] not in names]
    target = root / _PACKAGES.format(machine.python)
    run([*pip, "install", *kind, "--no-deps", "--no-index", "--no-compile", f"--target={target}", *wheels])
    shutil.rmtree(target / "bin", ignore_errors=True)  # commands that name this machine's Python
    (target / "pi_lab.pth").write_text(_POINTER)
    shutil.rmtree(folder)


def _empty_wheel(requirement: str, folder: Path) -> Path:
    """Write a wheel with nothing in it but its name: what pip takes for "name==version" that Debian has installed.

    For armv7l there would be none that it could download.
    """
    name, _, version = requirement.partition("==")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        notes = f"{name}-{version}.dist-info"
        wheel.writestr(f"{notes}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{notes}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{notes}/RECORD", "")
    return path
