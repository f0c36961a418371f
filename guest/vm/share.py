# SPDX-License-Identifier: BSD-3-Clause
"""A folder served by Debian's diod at a UNIX socket, for virtio-9p devices."""

import contextlib
import hashlib
import os
import pwd
import shutil
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
from machine import MachineError, Program  # noqa: E402


def program():
    """Where diod is, or None. It is in /usr/sbin, which is not in everybody's PATH."""
    return shutil.which("diod", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Diod(Program):
    """Serves `folder` as who runs this, whoever asks; ready when it is made. stop() ends it."""

    def __init__(self, path, folder):
        where = program()
        if not where:
            raise MachineError("diod is not installed: apt-get install -y --no-install-recommends diod (or ./run setup)")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of one that was killed
        me = pwd.getpwuid(os.getuid()).pw_name
        super().__init__("diod", [where, "-f", "-n", "-S", "-U", me, "-L", "stderr", "-c", "/dev/null", "-l", path, "-e", folder],
                         os.path.dirname(path))
        end = time.monotonic() + 10
        while not self._answers(path):
            if not self.alive() or time.monotonic() > end:
                self.kill()
                raise MachineError(f"diod does not serve {folder}:\n{self.log()}")
            time.sleep(0.02)

    @staticmethod
    def _answers(path):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(path) == 0


class Share:
    """A folder with a file and many small ones of the host's; asked() looks what the guest has made of it."""

    FILES = 1000

    def __init__(self, where):
        self.folder, self.socket = os.path.join(where, "share"), os.path.join(where, "share.sock")
        os.makedirs(os.path.join(self.folder, "of-the-host"), exist_ok=True)  # one folder may be shared by one machine after another
        self.data = os.urandom(1 << 20)
        with open(os.path.join(self.folder, "megabyte"), "wb") as f:
            f.write(self.data)
        for i in range(self.FILES):
            with open(os.path.join(self.folder, "of-the-host", str(i)), "w", encoding="ascii") as f:
                f.write(f"{i}\n")
        self.diod = Diod(self.socket, self.folder)

    def close(self):
        self.diod.stop()

    def asked(self, words):
        if words[:1] == ["has"] and len(words) == 3:  # of a file of the host's, or of all small ones, one after the other
            text = self.data if words[1] == "megabyte" else b"".join(b"%d\n" % i for i in range(self.FILES))
            return "ok" if hashlib.md5(text).hexdigest() == words[2] else f"no: {words[1]} is another here"
        try:
            return self._written(int(words[1]))
        except (OSError, IndexError) as e:
            return f"no: {e}"

    def _written(self, files):
        with open(os.path.join(self.folder, "back"), "rb") as f:
            if f.read() != self.data:
                return "no: back is not what megabyte is"
        for i in range(files):
            with open(os.path.join(self.folder, "of-the-guest", str(i)), encoding="ascii") as f:
                if f.read() != f"{i}\n":
                    return f"no: of-the-guest/{i} is wrong"
        n = len(os.listdir(os.path.join(self.folder, "of-the-guest")))
        return "ok" if n == files else f"no: {n} files"
