# SPDX-License-Identifier: BSD-3-Clause
"""One run of QEMU: its command line, the accelerator that really works, the console, and its end."""

import os
import re
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
from machine import Machine, MachineError, Program, die_with_parent  # noqa: E402,F401
from ab.instrument.telemetry import ask_within  # noqa: E402,F401
from vm import initramfs  # noqa: E402
from vm.packages import Broken, need_program  # noqa: E402

MACHINES = {
    # program, package, machine, console
    # x-vof: no firmware to boot through, 2 s instead of 8.
    "ppc64le": ("qemu-system-ppc64", "qemu-system-ppc", "pseries,x-vof=on", "hvc0", ["-vga", "none"]),
    "amd64": ("qemu-system-x86_64", "qemu-system-x86", "q35", "ttyS0", []),
}
TRIAL_SECONDS = 2


class GuestError(Broken):
    """The guest did not do what it should; the text carries the end of its console."""


class Vm:
    """A guest's hardware and what it boots; run() once."""

    def __init__(self, arch, image, initrd, folder, memory_mib=512, cpus=1, accel="tcg", devices=(), ram=None):
        self.arch, self.image, self.initrd, self.folder = arch, image, initrd, folder
        self.memory_mib, self.cpus, self.accel, self.devices, self.ram = memory_mib, cpus, accel, list(devices), ram
        need_program(*MACHINES[arch][:2])

    def argv(self, script, interactive=False):
        program, _, machine, console, more = MACHINES[self.arch]
        initrd = os.path.join(self.folder, "initrd")
        with open(initrd, "wb") as f:
            f.write(self.initrd + script)
        if self.ram:  # memory that others map too
            more = [*more, "-object", f"memory-backend-file,id=ram,size={self.memory_mib}M,mem-path={self.ram},share=on,prealloc=off"]
            machine += ",memory-backend=ram"
        # Never one possible processor, never thread=single: TCG leaves a guest's barriers out then, and a guest whose memory other
        # processes share needs them.
        accel = "tcg,thread=multi" if self.accel == "tcg" else self.accel
        return [program, "-machine", machine, "-accel", accel, *(["-cpu", "host"] if self.accel == "kvm" else []),
                "-smp", f"{self.cpus},maxcpus={max(2, self.cpus)}", "-m", str(self.memory_mib), *more,
                "-nodefaults", "-display", "none", "-no-reboot", "-serial", "mon:stdio" if interactive else "stdio",
                "-kernel", self.image, "-initrd", initrd,
                "-append", f"console={console} panic=-1 quiet loglevel=3", *self.devices]

    def run(self, text, seconds, asked=None, on_line=None, **variables):
        """Boot, run the shell text in the guest, end. The console's lines.

        asked(words) does what the guest asks of the host and returns what to answer. GuestError when the guest ends early, says
        nothing for too long, or takes more than so many seconds; QEMU is gone in any case.
        """
        argv = self.argv(initramfs.script(text, **variables))
        with open(os.path.join(self.folder, "qemu.log"), "wb") as log:
            proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent)
            try:
                return self._talk(proc, time.monotonic() + seconds, asked, on_line)
            finally:
                if proc.poll() is None:
                    proc.kill()
                proc.wait()
                proc.stdin.close()
                proc.stdout.close()

    def _talk(self, proc, end, asked, on_line):
        lines, rest = [], b""
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([proc.stdout], [], [], left)[0]:
                raise GuestError(f"the guest was not done in time:\n{self.tail(lines)}")
            got = os.read(proc.stdout.fileno(), 65536)
            *whole, rest = (rest + got).split(b"\n")
            for raw in whole:
                # A line of the kernel may come before one of ours, without an end of its own.
                line = re.sub(r"^.*?(?=@@)", "", raw.decode(errors="replace").rstrip("\r"))
                lines.append(line)
                if on_line:
                    on_line(line)
                if line.startswith("@@ask "):
                    answer = asked(line.split()[1:]) if asked else "no: nobody is there to answer"
                    proc.stdin.write(f"{answer}\n".encode())
                    proc.stdin.flush()
            if not got:
                break
        try:
            proc.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise GuestError(f"QEMU closed its console and does not end:\n{self.tail(lines)}") from None
        if "@@end" not in lines:
            raise GuestError(f"the guest ended early (QEMU: exit {proc.returncode}):\n{self.tail(lines)}")
        return lines

    def tail(self, lines):
        with open(os.path.join(self.folder, "qemu.log"), errors="replace") as f:
            said = f.read()[-1500:]
        return "\n".join(lines[-25:]) + (f"\n--- qemu:\n{said}" if said else "")

    def shell(self):
        """A shell on this terminal, until the guest is switched off."""
        try:
            return subprocess.run(self.argv(initramfs.script(None), interactive=True), preexec_fn=die_with_parent, check=False).returncode
        finally:
            if sys.stdin.isatty():
                subprocess.run(["stty", "sane"], check=False)


def results(lines):
    """(what held, what did not) of a run's console."""
    return ([x[5:] for x in lines if x.startswith("@@ok ")], [x[6:] for x in lines if x.startswith("@@bad ")])


def choose_accel(arch, image, initrd, folder, say):
    """"kvm" when a trial boot of two seconds reaches the guest's first process, else "tcg".

    /dev/kvm says little: some clouds show one on which no stock kernel boots.
    """
    if os.uname().machine != {"amd64": "x86_64"}.get(arch, arch) or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if not shutil.which(MACHINES[arch][0]):
        return "tcg"
    vm = Vm(arch, image, initrd, folder, accel="kvm")
    try:
        vm.run("", TRIAL_SECONDS, no_modules=1)
        return "kvm"
    except GuestError:
        say(f"/dev/kvm is there, but a trial boot did not reach its first process within {TRIAL_SECONDS} s: QEMU's TCG is used")
        return "tcg"
