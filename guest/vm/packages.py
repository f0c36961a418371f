# SPDX-License-Identifier: BSD-3-Clause
"""Debian packages of an architecture that need not be this machine's, without touching its package manager.

apt reads everything of itself from a root of its own (sources, lists, an empty status), so that neither `dpkg
--add-architecture` nor root is needed. What was found the first time is pinned: the .debs and their versions stay in
$XDG_CACHE_HOME/virtio-vio, and later runs need no network. A package that can't be had is an exception that says which,
and why.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "bookworm"
# By our names: Debian's architecture, the kernel's flavour, its ARCH=, the cross compiler's prefix.
ARCHES = {
    "ppc64le": {"debian": "ppc64el", "flavour": "powerpc64le", "kernel": "powerpc", "triplet": "powerpc64le-linux-gnu"},
    "amd64": {"debian": "amd64", "flavour": "amd64", "kernel": "x86", "triplet": "x86_64-linux-gnu"},
}
# Sonames of which Debian's rule (libNAME.so.N is in libNAMEN) does not give the package.
ODD_SONAMES = {"libcrypto.so.3": "libssl3", "libssl.so.3": "libssl3", "libe2p.so.2": "libext2fs2",
               "libceph-common.so.2": "librados2", "libz.so.1": "zlib1g", "libxml2.so.2": "libxml2", "libudev.so.1": "libudev1",
               "libicuuc.so.72": "libicu72",
               "libicudata.so.72": "libicu72", "libicui18n.so.72": "libicu72", "libcurl.so.4": "libcurl4"}
LIBC = re.compile(r"^(ld\d*(-linux.*)?|libc|libm|libmvec|libdl|libpthread|librt|libresolv|libanl|libutil)\.so\.")


class Missing(Exception):
    """Something that is needed can't be had; the text says what, why, and what to do."""


class Broken(Exception):
    """What was there did not do what it should; the text says what it said."""


def cache_home():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "virtio-vio", "debian")


def need_program(program, package):
    if not shutil.which(program):
        raise Missing(f"{program} is not installed: apt-get install -y --no-install-recommends {package} (or ./run setup)")


def needed_sonames(path):
    """What an ELF file wants loaded with it, its interpreter included; [] for a file that is none."""
    with open(path, "rb") as f:
        if f.read(4) != b"\x7fELF":
            return []
    said = subprocess.run(["readelf", "-d", "-l", path], capture_output=True, text=True, check=False).stdout
    libs = re.findall(r"\(NEEDED\).*\[(.+?)\]", said)
    return libs + [os.path.basename(i) for i in re.findall(r"program interpreter: (.+?)\]", said)]


def package_of(soname):
    if soname in ODD_SONAMES:
        return ODD_SONAMES[soname]
    if LIBC.match(soname):
        return "libc6"
    name, _, version = soname.replace("_", "-").lower().partition(".so.")
    return f"{name}-{version}" if name[-1].isdigit() else name + version


def host_mirrors():
    """Where this machine has its Debian from: a mirror is often the only way out."""
    said = subprocess.run(["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"],
                          capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in said.splitlines()]
    return [r[2] for r in rows if len(r) == 3 and r[:2] == [SUITE, "main"]]


class Root:
    """Packages of one architecture: fetched into a cache, unpacked into a folder there."""

    def __init__(self, arch, say=lambda text: None):
        self.arch, self.say = arch, say
        self.dir = os.path.join(cache_home(), arch)
        self.debs = os.path.join(self.dir, "debs")
        self.tree = os.path.join(self.dir, "tree")
        self.pins = os.path.join(self.dir, "pinned.json")
        os.makedirs(self.debs, exist_ok=True)
        os.makedirs(self.tree, exist_ok=True)

    @property
    def debian(self):
        return ARCHES[self.arch]["debian"]

    @contextlib.contextmanager
    def locked(self):
        """One process at a time fills the cache. The lock goes with its holder."""
        with open(os.path.join(self.dir, "lock"), "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    # --- apt ---------------------------------------------------------------------------------------------------------

    def _conf(self, mirror):
        apt = os.path.join(self.dir, "apt")
        for d in ("state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(apt, d), exist_ok=True)
        signed = f" signed-by={KEYRING}" if os.path.exists(KEYRING) else ""
        rows = {"sources.list": f"deb [arch={self.debian}{signed}] {mirror} {SUITE} main\n", "status": "",
                "apt.conf": f'APT::Architecture "{self.debian}";\nAPT::Architectures {{"{self.debian}"}};\n'
                            f'Dir::State "{apt}/state";\nDir::State::status "{apt}/status";\nDir::Cache "{apt}/cache";\n'
                            f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
                            'Acquire::Languages "none";\nAPT::Sandbox::User "root";\nAcquire::Retries "2";\n'
                            'Acquire::http::Timeout "20";\n'}
        for name, text in rows.items():
            with open(os.path.join(apt, name), "w", encoding="utf-8") as f:
                f.write(text)
        return os.path.join(apt, "apt.conf")

    def _apt(self, *argv, cwd=None):
        env = {**os.environ, "APT_CONFIG": os.path.join(self.dir, "apt", "apt.conf"), "LC_ALL": "C"}
        return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)

    def _update(self):
        """Lists of the first mirror that has this architecture; once a process."""
        if getattr(self, "_updated", False):
            return
        need_program("apt-get", "apt")
        why = []
        mirrors = [os.environ["VIO_DEBIAN_MIRROR"]] if "VIO_DEBIAN_MIRROR" in os.environ else host_mirrors()
        for mirror in dict.fromkeys(m.rstrip("/") for m in mirrors):
            self._conf(mirror)
            r = self._apt("apt-get", "update", "-q")
            if r.returncode == 0 and self._apt("apt-cache", "show", "libc6").stdout:
                self._updated = True
                return
            why.append(f"{mirror}: {(r.stderr.strip().splitlines() or ['no index of this architecture'])[-1]}")
        raise Missing(f"Debian's packages for {self.debian} can't be had: {'; '.join(why) or 'apt knows no source of ' + SUITE + ' here'}. "
                      "VIO_DEBIAN_MIRROR=URL names another mirror.")

    def depends(self, package):
        self._update()
        said = self._apt("apt-cache", "depends", package).stdout
        return re.findall(r"^\s*\|?(?:Pre)?Depends: (\S+)", said, re.M)

    # --- the cache -----------------------------------------------------------------------------------------------------

    def pinned(self):
        try:
            with open(self.pins, encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    def _pin(self, **more):
        pins = {**self.pinned(), **more}
        with open(self.pins + ".new", "w", encoding="utf-8") as f:
            json.dump(pins, f, indent=1, sort_keys=True)
        os.replace(self.pins + ".new", self.pins)

    def abi(self):
        """The kernel of this cache, as 6.1.0-50-powerpc64le; asked once, then the same for ever."""
        known = self.pinned().get("abi")
        if known:
            return known
        meta = f"linux-image-{ARCHES[self.arch]['flavour']}"
        images = [d for d in self.depends(meta) if d.startswith("linux-image-")]
        if not images:
            raise Missing(f"{meta} names no kernel; apt-cache of {self.dir}/apt says nothing about it")
        self._pin(abi=images[0].removeprefix("linux-image-"))
        return self.pinned()["abi"]

    def get(self, *packages):
        """Fetched and unpacked into self.tree, each once. Missing names those that can't be had."""
        with self.locked():
            have = self.pinned()
            wanted = [p for p in packages if not os.path.exists(os.path.join(self.dir, "done-" + p))]
            load = [p for p in wanted if not os.path.exists(os.path.join(self.debs, have.get(p, "none.deb")))]
            if load:
                self._fetch(load)
                have = self.pinned()
            for p in wanted:
                r = subprocess.run(["dpkg-deb", "-x", os.path.join(self.debs, have[p]), self.tree],
                                   capture_output=True, text=True, check=False)
                if r.returncode:
                    os.unlink(os.path.join(self.debs, have[p]))
                    raise Missing(f"{have[p]} is broken and was removed from the cache: {r.stderr.strip()}")
                open(os.path.join(self.dir, "done-" + p), "w").close()

    def _fetch(self, packages):
        self._update()
        self.say(f"fetching for {self.debian}: {' '.join(packages)}")
        r = self._apt("apt-get", "download", "-q", *packages, cwd=self.debs)
        names = os.listdir(self.debs)
        found = {p: sorted(n for n in names if n.startswith(p + "_")) for p in packages}
        gone = [p for p, n in found.items() if not n]
        if gone:
            raise Missing(f"{' '.join(gone)} of Debian {SUITE} ({self.debian}) can't be had: "
                          f"{(r.stderr.strip().splitlines() or ['nothing said'])[-1]}")
        self._pin(**{p: max(n, key=lambda x: os.path.getmtime(os.path.join(self.debs, x))) for p, n in found.items()})

    def path(self, *parts):
        return os.path.join(self.tree, *parts)

    def library(self, soname):
        """A shared library of this architecture in the tree, by soname; None when it is not there."""
        for d in (f"lib/{self.triplet}", f"usr/lib/{self.triplet}", "lib64", "lib", "usr/lib"):
            for sub in ("", "ceph", "glusterfs"):
                if os.path.exists(self.path(d, sub, soname)):
                    return os.path.realpath(self.path(d, sub, soname))
        return None

    @property
    def triplet(self):
        return ARCHES[self.arch]["triplet"]

    def closure(self, programs):
        """soname: path, of all libraries that the programs (paths) need, the loader included; their packages are fetched."""
        seen, todo = {}, list(programs)
        while todo:
            names = sorted({n for p in todo for n in needed_sonames(p)} - set(seen))
            self.get(*sorted({package_of(n) for n in names if not self.library(n)}))
            for n in names:
                seen[n] = self.library(n)
                if not seen[n]:
                    raise Missing(f"{n} is not in Debian's {package_of(n)} ({self.debian}), where its name says it is")
            todo = [seen[n] for n in names]
        return seen
