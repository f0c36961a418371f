# SPDX-License-Identifier: BSD-3-Clause
"""The guest's disk as an NBD export, for the tests that drive it with real programs."""

import contextlib
import os
import subprocess
import tempfile
import unittest

from common import BUILD, until

PLUGIN = os.path.join(BUILD, "guest/nbdkit/nbdkit-vio-plugin.so")


class Images(unittest.TestCase):
    """A folder of its own for each test's images, on a file system that has holes."""

    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-images-", dir="/var/tmp")
        self.d = self.tmp.name

    def tearDown(self):
        self.tmp.cleanup()

    def image(self, mib, name="disk.img"):
        path = os.path.join(self.d, name)
        with open(path, "wb") as f:
            f.truncate(mib << 20)
        return path


def run(*argv, timeout=180):
    """Exit code and all that was said."""
    r = subprocess.run(argv, capture_output=True, text=True, errors="replace",
                       timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    return r.returncode, r.stdout + r.stderr


def sh(*argv, timeout=180):
    """Standard output of a program that must succeed."""
    r = subprocess.run(argv, capture_output=True, text=True, errors="replace",
                       timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    if r.returncode:
        raise AssertionError(f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
    return r.stdout


def io(uri, *commands):
    """qemu-io's commands on the disk, in order: exit code (of a mismatch or an error too) and all that was said."""
    argv = ["qemu-io", "-f", "raw"]
    for c in commands:
        argv += ["-c", c]
    return run(*argv, uri)


def preload():
    """A plugin built with a sanitizer needs its run time in nbdkit, which has none."""
    if "asan" in BUILD:
        lib = sh("cc", "-print-file-name=libasan.so").strip()
    elif "tsan" in BUILD:
        lib = sh("cc", "-print-file-name=libtsan.so").strip()
    else:
        return {}
    return {"LD_PRELOAD": lib, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "report_bugs=0"}


class Nbdkit:
    """nbdkit in the foreground, serving the guest's disk. `before`: options of nbdkit itself."""

    def __init__(self, m, arm, *args, before=()):
        self.sock = os.path.join(m.dir, f"nbd-{arm}.sock")
        self.uri = f"nbd+unix:///?socket={self.sock}"
        self.log_path = os.path.join(m.dir, "nbdkit.log")
        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", self.sock, *before,
                                          PLUGIN, f"phyp={m.socket}", f"arm={arm}", *args], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, env={**os.environ, **preload()})
        self.vios = m.vios

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def __enter__(self):
        def up():
            if self.proc.poll() is not None:
                raise AssertionError(f"nbdkit ended with {self.proc.returncode}: {self.log()}\n{self.vios.log()}")
            return os.path.exists(self.sock)
        try:
            until(up, "nbdkit's socket")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            # With a sanitizer's run time nbdkit, once it has reported an error, hangs in the C library's own exit (a
            # lock of its locale).
            if not preload():
                raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.sock)


@contextlib.contextmanager
def nbdkit(m, arm, *args, before=()):
    """Yields the NBD URI of the guest's disk."""
    with Nbdkit(m, arm, *args, before=before) as n:
        yield n.uri
