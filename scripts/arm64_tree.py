"""Makes an aarch64 Python with this project in it that runs, emulated, on another machine.

    python -m scripts.arm64_tree OUT
    OUT/bin/python -m profiler.cli --target cpu-arm --architectures SHAPES.csv --out PROFILE

It shows that the base install works on Arm, and says nothing about Arm's speed. It needs neither
root, nor chroot, nor a registered binary format: `qemu-aarch64-static` looks up files in the tree.

- `OUT/root`: packages of Debian for arm64, unpacked and not configured
- `OUT/bin/python`, `OUT/pyvenv.cfg`, `OUT/lib`: a virtual environment whose interpreter is a shell
  script around the emulator. The emulated program takes the script for its executable, so that the
  processes it starts from it are emulated, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from autotinybert.errors import InputError, WorkError

EMULATOR = "qemu-aarch64-static"
BOOTSTRAP = "debootstrap"
NEEDED_TOOLS = (EMULATOR, BOOTSTRAP, "dpkg")

SUITE = "bookworm"
PYTHON = "3.11"  # of that suite
GLIBC_MINOR = 36  # likewise: 2.36
PACKAGES = ("python3", "libstdc++6", "libgomp1")

CPU = "cortex-a76"
# As Linux describes that core. ONNX Runtime reads it and crashes where there is none.
CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""

CHECKOUT = Path(__file__).resolve().parent.parent

# What debootstrap and pip say where nothing answers; any other failure is a defect.
_NOTHING_ANSWERS = ("Failed getting release file", "connection broken by", "Read timed out")


class UnreachableError(WorkError):
    """The servers of packages do not answer from this machine."""


def check_tools() -> None:
    """Refuses a machine without the programs that a tree is made with.

    Raises:
        InputError: naming the first that is missing.
    """
    for tool in NEEDED_TOOLS:
        if shutil.which(tool) is None:
            raise InputError(
                f"no {tool} on this machine: apt-get install qemu-user-static debootstrap"
            )


def make_tree(folder: Path) -> Path:
    """Makes the tree, or leaves nothing behind.

    Args:
        folder: absent; it cannot be moved later.

    Returns:
        The interpreter: a program that runs as on aarch64.

    Raises:
        InputError: if `folder` is there, or a program is missing.
        UnreachableError: if packages cannot be fetched from here.
        WorkError: if something else failed.
    """
    check_tools()
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(f"{folder} is there: name a folder that is not") from error
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from error
    with removed_on_failure(folder):
        root = folder / "root"
        fetch_packages(root, debian_mirror(_index_targets()))
        unpack_packages(root)
        describe_processor(root, len(os.sched_getaffinity(0)))
        interpreter = write_environment(folder, root)
        install_wheels(folder / "lib" / f"python{PYTHON}" / "site-packages")
        run_program([str(interpreter), "-c", "import onnxruntime, profiler.worker"])
    return interpreter


def debian_mirror(targets: str) -> str | None:
    """The mirror of Debian's packages that this machine's apt uses.

    Args:
        targets: lines of origin, code name, component and address.

    Returns:
        The first that has the suite and is fetched over a network; None where there is none.
    """
    for line in targets.splitlines():
        origin, _, address = line.rpartition(" ")
        if origin == f"Debian {SUITE} main" and address.startswith(("http:", "https:")):
            return address
    return None


def fetch_packages(root: Path, mirror: str | None) -> None:
    """Fetches arm64 packages and what they need into `root`, with their signatures checked.

    Args:
        root: the folder of the tree.
        mirror: where to fetch from; None leaves that to debootstrap.
    """
    run_program(
        [
            *(BOOTSTRAP, "--download-only", "--arch=arm64", "--variant=minbase"),
            *(f"--include={','.join(PACKAGES)}", SUITE, str(root)),
            *([] if mirror is None else [mirror]),
        ]
    )


def unpack_packages(root: Path) -> None:
    """Unpacks what was fetched, without running any of it."""
    archives = root / "var" / "cache" / "apt" / "archives"
    for package in sorted(archives.glob("*.deb")):
        run_program(["dpkg", "-x", str(package), str(root)])
        package.unlink()


def describe_processor(root: Path, cores: int) -> None:
    """Writes what the emulated program finds at `/proc/cpuinfo`."""
    (root / "proc").mkdir(exist_ok=True)
    text = "".join(CPUINFO.format(number=number) for number in range(cores))
    (root / "proc" / "cpuinfo").write_text(text)


def write_environment(folder: Path, root: Path) -> Path:
    """Writes the virtual environment around the emulator.

    Returns:
        Its interpreter.
    """
    (folder / "bin").mkdir()
    interpreter = folder / "bin" / "python"
    emulator = shutil.which(EMULATOR)
    assert emulator is not None
    command = [
        *(emulator, "-cpu", CPU, "-L", str(root)),
        # The name that the program sees is what it will start its own children by.
        *("-0", str(interpreter), str(root / "usr" / "bin" / f"python{PYTHON}")),
    ]
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    interpreter.chmod(0o755)
    (folder / "pyvenv.cfg").write_text(
        f"home = {root}/usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    )
    return interpreter


def install_wheels(site: Path) -> None:
    """Installs the checkout's wheel and its base dependencies, as aarch64 wheels, into `site`."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as wheels:
        run_program(
            [
                *(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels),
                str(CHECKOUT),
            ]
        )
        (wheel,) = Path(wheels).glob("autotinybert-*.whl")
        run_program(
            [
                *(*pip, "install", "--target", str(site), "--only-binary=:all:"),
                *("--implementation", "cp", "--python-version", PYTHON),
                *(f"--platform={platform}" for platform in _platforms()),
                *("--constraint", str(CHECKOUT / "constraints.txt"), str(wheel)),
            ]
        )


def _platforms() -> list[str]:
    """The tags of wheels that the suite's C library runs; pip knows that for this machine only."""
    versions = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC_MINOR, 16, -1)]
    return [*versions, "manylinux2014_aarch64"]


def _index_targets() -> str:
    """What apt knows of its sources; nothing where there is no apt."""
    if shutil.which("apt-get") is None:
        return ""
    fields = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    return run_program(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])


def run_program(command: Sequence[str]) -> str:
    """Runs a program and returns what it printed.

    Raises:
        UnreachableError: if it failed because nothing answered.
        WorkError: if it failed otherwise; with the last thing it said.
    """
    # An emulated Python must not find this one's modules.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Nothing here asks, and nothing may read a terminal.
    done = subprocess.run(
        command, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    said = done.stdout + done.stderr
    if any(phrase in said for phrase in _NOTHING_ANSWERS):
        raise UnreachableError(f"{_name(command)} cannot fetch packages: {_last_line(said)}")
    raise WorkError(f"{_name(command)} failed: {_last_line(said)}")


def _name(command: Sequence[str]) -> str:
    return "pip" if "pip" in command else Path(command[0]).name


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it said nothing"


@contextlib.contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Removes a folder and all in it, should what is done inside the block fail."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes a tree and says how to use it."""
    parser = argparse.ArgumentParser(
        prog="arm64_tree", description="Makes an emulated aarch64 Python with this project in it."
    )
    parser.add_argument("out", type=Path, help="the folder to make; it must not be there")
    options = parser.parse_args(arguments)
    try:
        interpreter = make_tree(options.out)
    except (InputError, WorkError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(f"made {interpreter}; try: {interpreter} -m profiler.cli --help")
    return 0


if __name__ == "__main__":
    sys.exit(main())
