"""Programs as people ship them, without DWARF and symbols: had as packages, started on loopback and given work."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import toolchains

SECONDS = 60


class Unavailable(Exception):
    """A package that cannot be had here; the message says why."""


@dataclass
class Running:
    """A started program: its process, its executable, and a `get(path)` and `post(path, document)` over HTTP."""

    process: subprocess.Popen
    exe: Path
    address: str

    @property
    def pid(self):
        return self.process.pid

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=SECONDS) as answer:
            return answer.read().decode()

    def post(self, path, **document):
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(document).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def wait_for(self, path, condition):
        """Asks until the answer is as wanted, and returns it."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"{self.exe.name} ended"
            with contextlib.suppress(OSError):
                answer = self.get(path)
                if condition(answer):
                    return answer
            time.sleep(0.1)
        raise AssertionError(f"{self.exe.name} does not answer {path} as expected")


def debian(package, program):
    """The path of a program of a Debian package, which is unpacked and not installed."""
    def make(directory):
        try:
            _run("apt-get", "download", "-qq", package, cwd=directory)
        except Unavailable:
            # The lists of packages may be missing.
            _run("apt-get", "update", "-qq")
            _run("apt-get", "download", "-qq", package, cwd=directory)
        [archive] = directory.glob("*.deb")
        _run("dpkg", "-x", archive, directory)
        archive.unlink()
    return _cached(package, make) / program


def upx():
    """(path, environment) of UPX, which Debian 12 has among its backports."""
    def make(directory):
        url = "http://deb.debian.org/debian/pool/main/u/upx-ucl/upx-ucl_4.2.2-3~bpo12+1_amd64.deb"
        try:
            urllib.request.urlretrieve(url, directory / "upx.deb")
        except OSError as error:
            raise Unavailable(f"{url}: {error}") from None
        _run("dpkg", "-x", directory / "upx.deb", directory)
    home = debian("libucl1", "usr/lib/x86_64-linux-gnu")
    return _cached("upx", make) / "usr/bin/upx-ucl", dict(os.environ, LD_LIBRARY_PATH=str(home))


def npm(package, version, program):
    """The path of a program of an npm package."""
    def make(directory):
        _run("npm", "pack", "--silent", f"{package}@{version}", cwd=directory)
        [archive] = directory.glob("*.tgz")
        _run("tar", "xf", archive, cwd=directory)
        archive.unlink()
    return _cached(f"{package.replace('/', '+')}-{version}", make) / "package" / program


def _cached(name, make):
    home = toolchains.cache_dir() / "packages" / name
    with toolchains.locked(home):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                make(made)
                os.replace(made, home)
    return home


def _run(*line, cwd=None):
    try:
        done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        raise Unavailable(f"{' '.join(map(str, line))}: {reason[-1]}")


def free_address():
    """A loopback address that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]


@contextlib.contextmanager
def started(exe, address, *arguments, cwd):
    """A running program, killed at the end."""
    with open(cwd / "log", "w") as log:
        process = subprocess.Popen([exe, *map(str, arguments)], cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={"PATH": os.defpath, "HOME": str(cwd)})
    try:
        yield Running(process, exe, address)
    finally:
        process.kill()
        process.wait()


def text64(text):
    """As etcd's gateway takes bytes."""
    return base64.b64encode(text.encode()).decode()


def put(etcd, lease, keys):
    """Puts keys into etcd under a new lease."""
    etcd.post("/v3/lease/grant", TTL=3600, ID=lease)
    for key in keys:
        etcd.post("/v3/kv/put", key=text64(key), value=text64("value of " + key), lease=lease)


@contextlib.contextmanager
def etcd(directory):
    """etcd, ready."""
    exe, client, peer = debian("etcd-server", "usr/bin/etcd"), free_address(), free_address()
    urls = [f"--{kind}-client-urls=http://{client}" for kind in ("listen", "advertise")]
    urls += [f"--listen-peer-urls=http://{peer}", f"--initial-advertise-peer-urls=http://{peer}"]
    with started(exe, client, "--data-dir=data", f"--initial-cluster=default=http://{peer}", *urls, cwd=directory) as running:
        running.wait_for("/health", lambda answer: json.loads(answer)["health"] == "true")
        yield running


@contextlib.contextmanager
def prometheus(directory):
    """prometheus, which has scraped itself."""
    exe, address = debian("prometheus", "usr/bin/prometheus"), free_address()
    jobs = [{"job_name": "itself", "static_configs": [{"targets": [address]}]}]
    # JSON is YAML.
    (directory / "config").write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    arguments = ["--config.file=config", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    with started(exe, address, *arguments, cwd=directory) as running:
        running.wait_for("/api/v1/query?query=prometheus_tsdb_head_series", lambda answer: '"value"' in answer)
        yield running


MODULES = 60


@contextlib.contextmanager
def esbuild(directory):
    """esbuild, which has built a program of many modules and waits for changes."""
    exe, address = npm("@esbuild/linux-x64", "0.28.2", "bin/esbuild"), free_address()
    for i in range(MODULES):
        following = f'import {{ v as w }} from "./module{i + 1}";' if i + 1 < MODULES else "const w = 1;"
        text = f"{following}\nexport const v: number = w + {i};\nexport enum E{i} {{ A{i} = 1, B }}\n"
        (directory / f"module{i}.ts").write_text(text)
    arguments = ["module0.ts", "--bundle", "--outdir=out", f"--serve={address}", "--watch=forever"]
    with started(exe, address, *arguments, cwd=directory) as running:
        running.wait_for("/module0.js", lambda answer: "E0" in answer)
        yield running
