# SPDX-License-Identifier: BSD-3-Clause
"""Debian's kernel of an architecture: its image, its modules in the order that they load in, modules built against it."""

import os
import re
import shutil
import subprocess

from vm.packages import ARCHES, Broken, Missing, need_program

# What the profiles of a guest load; each pulls in what it depends on.
STOCK = {
    "virtio": ["virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "9p", "9pnet_virtio", "ext4", "crc32c_generic"],
    "pci": ["virtio_pci"],
    "vio": ["ibmvscsi", "sd_mod", "ibmveth"],
    "nics": ["8139cp", "e1000"],
}
MAKE_SECONDS = 300
# Soft dependencies: a symbol is looked up by name at run time.
SOFT = {"ext4": ["crc32c_generic"], "jbd2": ["crc32c_generic"]}


class Kernel:
    """Fetched on first use. Host programs that are missing are an exception (packages.Missing)."""

    def __init__(self, root):
        self.root, self.built = root, {}
        self.abi = root.abi()
        root.get(f"linux-image-{self.abi}")
        self.image = root.path("boot", ("vmlinuz-" if root.arch == "amd64" else "vmlinux-") + self.abi)
        self.files = {}  # name with _ for -: path
        for folder, _, names in os.walk(root.path("lib", "modules", self.abi, "kernel")):
            for n in names:
                if n.endswith(".ko"):
                    self.files[n[:-3].replace("-", "_")] = os.path.join(folder, n)
        if not os.path.exists(self.image) or not self.files:
            raise Missing(f"linux-image-{self.abi} has no {os.path.basename(self.image)} or no modules in {root.tree}")
        with open(root.path("lib", "modules", self.abi, "modules.builtin"), encoding="utf-8") as f:
            self.builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in f}

    def depends(self, path):
        with open(path, "rb") as f:
            m = re.search(rb"\0depends=([^\0]*)\0", f.read())
        return [d.replace("-", "_") for d in m.group(1).decode().split(",") if d] if m else []

    def ordered(self, names, own=()):
        """Paths in an order in which insmod can load them; names that are built in are left out. own: paths of our modules."""
        ours = {os.path.basename(p)[:-3].replace("-", "_"): p for p in own}
        out, seen = [], set()

        def add(name, because):
            name = name.replace("-", "_")
            if name in seen or name in self.builtin:
                return
            seen.add(name)
            path = ours.get(name) or self.files.get(name)
            if not path:
                raise Broken(f"the kernel {self.abi} has no module {name} (for {because})")
            for d in self.depends(path) + SOFT.get(name, []):
                add(d, name)
            out.append(path)

        for n in list(names) + list(ours):
            add(n, "this guest")
        return out

    # --- building ----------------------------------------------------------------------------------------------------

    def headers(self):
        """The kernel's build directory, ready to build modules in; kbuild's programs are this machine's."""
        arch = ARCHES[self.root.arch]
        kbuild = f"linux-kbuild-{'.'.join(self.abi.split('.')[:2])}"
        here = f"/usr/lib/{kbuild}"
        if not os.path.isdir(here):
            raise Missing(f"{kbuild} is not installed: apt-get install -y --no-install-recommends {kbuild} (or ./run setup)")
        need_program("make", "make")
        if self.root.arch == "ppc64le":
            need_program(arch["triplet"] + "-gcc", "gcc-" + arch["triplet"])
        common = re.sub(r"^(\d+\.\d+\.\d+-\d+)-.*", r"linux-headers-\1-common", self.abi)
        self.root.get(f"linux-headers-{self.abi}", common)
        link = self.root.path("usr", "lib", kbuild)
        if not os.path.exists(link):
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(here, link)
        tree = self.root.path("usr", "src", f"linux-headers-{self.abi}")
        makefile = os.path.join(tree, "Makefile")
        with open(makefile, encoding="utf-8") as f:
            text = f.read()
        moved = re.sub(r"(?<![\w/])/usr/src/", self.root.path("usr", "src") + "/", text)
        if moved != text:
            with open(makefile, "w", encoding="utf-8") as f:
                f.write(moved)
        return tree

    def build(self, source, out, *variables):
        """The modules of folder `source`, built in a copy of it at `out`, with make's variables, once. Paths of the .ko files."""
        if (source, out) in self.built:
            return self.built[source, out]
        arch = ARCHES[self.root.arch]
        argv = ["make", "-s", "-C", self.headers(), f"M={out}", f"ARCH={arch['kernel']}", *variables, "modules"]
        if self.root.arch == "ppc64le":
            argv.insert(-1, f"CROSS_COMPILE={arch['triplet']}-")
        tool = arch["triplet"] + "-strip" if self.root.arch == "ppc64le" else "strip"
        with self.root.locked():  # another run of this tree may build there
            os.makedirs(out, exist_ok=True)
            shutil.copytree(source, out, dirs_exist_ok=True)
            try:
                r = subprocess.run(argv, capture_output=True, text=True, timeout=MAKE_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                raise Broken(f"make was not done after {MAKE_SECONDS} s: {' '.join(argv)}") from None
            found = sorted(os.path.join(out, n) for n in os.listdir(out) if n.endswith(".ko"))
            if r.returncode or not found:
                raise Broken(f"the modules of {source} do not build for {self.abi} ({' '.join(argv)}):\n"
                              f"{(r.stdout + r.stderr)[-3000:]}")
            for ko in found:
                subprocess.run([tool, "--strip-debug", ko], check=False)
        self.built[source, out] = found
        return found
