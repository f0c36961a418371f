# SPDX-License-Identifier: BSD-3-Clause
"""A folder served by Debian's diod at a UNIX socket, for virtio-9p devices."""

import contextlib
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
        super().__init__("diod", [where, "-f", "-n", "-N", "-S", "-U", me, "-L", "stderr", "-c", "/dev/null", "-l", path, "-e", folder],
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
