#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server's counters are readable with DPDK's own dpdk-telemetry.py."""

import json
import os
import subprocess
import unittest

from common import BUILD, Machine, main


def ask(m, *commands):
    """What dpdk-telemetry.py answers to each command, as parsed JSON."""
    r = subprocess.run(["/usr/bin/python3", "/usr/bin/dpdk-telemetry.py", "-f", os.path.basename(m.dir)],
                       input="\n".join(commands) + "\nquit\n", capture_output=True, text=True, timeout=30, check=False)
    answers, decoder = {}, json.JSONDecoder()
    text = r.stdout
    at = text.find("{")
    while at >= 0:
        try:
            obj, end = decoder.raw_decode(text, at)
        except ValueError:
            at = text.find("{", at + 1)
            continue
        answers.update(obj)
        at = text.find("{", end)
    return answers, r.stdout + r.stderr


class Telemetry(unittest.TestCase):
    def test_counters_of_adapter_and_queue_match_what_the_guest_did(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            g = m.start_guest(["--arm", "zero-copy", "--rw", "randread", "--seconds", "30", "--span", "1M"])
            import time
            time.sleep(1.5)
            answers, text = ask(m, "/vio/list", "/vio/hcalls", "/vio/lcores", "/vio/memory")
            self.assertIn("/vio/list", answers, text)
            unit = next(iter(answers["/vio/list"]))
            more, text = ask(m, f"/vio/adapter,{unit}", f"/vio/queue,{unit},0")
            self.assertTrue(g.alive(), g.log())
            g.kill()
            adapter = next(v for k, v in more.items() if k.startswith("/vio/adapter"))
            queue = next(v for k, v in more.items() if k.startswith("/vio/queue"))
            self.assertEqual(adapter["partner"], "guest0", text)
            self.assertGreater(queue["reads"], 100, text)


if __name__ == "__main__":
    main()
