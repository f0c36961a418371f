# SPDX-License-Identifier: BSD-3-Clause
"""An initramfs as a cpio archive (newc), written here because the kernel reads several, one after the other, uncompressed."""

import os
import stat

HERE = os.path.dirname(os.path.abspath(__file__))


class Archive:
    """Files by their path in the guest. bytes() is the archive."""

    def __init__(self):
        self._parts, self._n, self._dirs = [], 0, set()

    def _add(self, name, mode, data):
        self._n += 1
        raw = name.encode() + b"\0"
        head = "070701" + "".join(f"{v:08x}" for v in (self._n, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0))
        for part in (head.encode() + raw, data):
            self._parts.append(part + b"\0" * (-len(part) % 4))

    def folder(self, name):
        name = name.strip("/")
        if name and name not in self._dirs:
            self.folder(os.path.dirname(name))
            self._dirs.add(name)
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def data(self, name, data, mode=0o644):
        name = name.strip("/")
        self.folder(os.path.dirname(name))
        self._add(name, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def file(self, name, path, mode=None):
        with open(path, "rb") as f:
            self.data(name, f.read(), stat.S_IMODE(os.stat(path).st_mode) if mode is None else mode)

    def link(self, name, to):
        name = name.strip("/")
        self.folder(os.path.dirname(name))
        self._add(name, stat.S_IFLNK | 0o777, to.encode())

    def bytes(self):
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)


# Programs of the guest: where Debian has them, and in which package. The busybox shell prefers its own applets to a program of the
# same name, so that those which busybox has too get a name of their own.
PROGRAMS = {
    "mke2fs": ("sbin/mke2fs", "e2fsprogs", "mke2fs.real"),
    "e2fsck": ("sbin/e2fsck", "e2fsprogs", "e2fsck"),
    "iperf3": ("usr/bin/iperf3", "iperf3", "iperf3"),
    "fio": ("usr/bin/fio", "fio", "fio"),
}


def base(root, modules, programs=(), extra=(), params=None):
    """busybox, /init, modules with the order to load them in, programs with their libraries, extra as (name in the guest, path).

    params: arguments of modules by name (without .ko)."""
    a = Archive()
    root.get("busybox-static")
    a.file("bin/busybox", root.path("bin", "busybox"), 0o755)
    a.link("bin/sh", "busybox")
    for d in ("dev", "proc", "sys", "tmp", "mnt", "root", "etc", "run"):
        a.folder(d)
    a.file("init", os.path.join(HERE, "inside", "init"), 0o755)
    order = []
    for path in modules:
        order.append(os.path.basename(path))
        a.file("lib/modules/" + order[-1], path, 0o644)
    a.data("lib/modules/order", "".join(f"{o} {(params or {}).get(o[:-3], '')}\n" for o in order))
    _programs(a, root, programs, [p for _, p in extra])
    for name, path in extra:
        a.file(name, path, 0o755)
    return a.bytes()


def _programs(a, root, programs, others):
    paths = list(others)
    for p in programs:
        where, package, name = PROGRAMS[p]
        root.get(package)
        paths.append(root.path(where))
        a.file("bin/" + name, root.path(where), 0o755)
    libs = root.closure(paths)
    for soname, path in libs.items():
        a.file("lib/" + soname, path, 0o755)
    if libs:
        a.link("lib64", "lib")
        a.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        a.data("etc/group", "root:x:0:\n")
        a.data("etc/nsswitch.conf", "passwd: files\nhosts: files\n")


def script(text, **variables):
    """A second archive: what this boot does, /run.sh, and its settings as shell variables."""
    a = Archive()
    a.data("run.env", "".join(f"{k}='{v}'\n" for k, v in variables.items()))
    if text is not None:
        a.data("run.sh", text, 0o755)
    return a.bytes()
