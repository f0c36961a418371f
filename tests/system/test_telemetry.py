#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server's counters are readable with DPDK's own dpdk-telemetry.py."""

import json
import os
import subprocess
import unittest

from common import BUILD, Machine, main, until


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
            g = m.start_guest(["--arm", "zero-copy", "--rw", "randread", "--seconds", "120", "--span", "1M"])
            seen = {"text": ""}

            def running():
                """Both answers, once the guest is at work; the script reads one datagram a command and may come early."""
                self.assertTrue(g.alive(), f"the guest ended with {g.proc.poll()}: {g.log()}\n{m.vios.log()}")
                answers, seen["text"] = ask(m, "/vio/list", "/vio/hcalls", "/vio/lcores", "/vio/memory")
                unit = next(iter(answers.get("/vio/list") or {}), None)
                if unit is None:
                    return None
                more, seen["text"] = ask(m, f"/vio/adapter,{unit}", f"/vio/queue,{unit},0")
                found = [next((v for k, v in more.items() if k.startswith(name) and v), None)
                         for name in ("/vio/adapter", "/vio/queue")]
                # The two answers are not of one instant: the adapter's may be older than the first requests.
                return found if all(found) and found[1]["reads"] > 100 and found[0]["queues"] else None

            try:
                adapter, queue = until(running, "counters of a guest at work in dpdk-telemetry.py's answers", 60)
            except AssertionError as e:
                raise AssertionError(f"{e}\nlast answers: {seen['text']}\nguest: {g.log()}\nvios: {m.vios.log()}") from None
            finally:
                g.kill()
            self.assertEqual(adapter["partner"], "guest0", seen["text"])
            self.assertEqual(adapter["ring"], "direct", seen["text"])
            self.assertGreater(queue["reads"], 100, seen["text"])

    def test_a_port_is_changed_while_vios_runs_and_refusals_say_why(self):
        """No guest is up and no uplink polls, so the lcore sleeps: it is woken for each of these."""
        with Machine(BUILD, vios_args=["--net", "vlan=10"]) as m:
            answers, text = ask(m, "/vio/set/port,0,vlan=20,mtu=9000,link=down", "/vio/port,0", "/vio/fdb", "/vio/set/port,7,link=up")
            port = next(v for k, v in answers.items() if k.startswith("/vio/port"))
            self.assertEqual((port["vlan"], port["mtu"], port["link"]), (20, 9000, "down"), text)
            table = next(v for k, v in answers.items() if k.startswith("/vio/fdb"))
            self.assertEqual((table["rows"], table["next"]), (0, 0), text)
            self.assertIn("there is no port 7", text)


if __name__ == "__main__":
    main()
