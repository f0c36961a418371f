# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance race [REQUESTS]: the hostile guest of tests/hostile over all arms, and the same against a server without snapshots.

With n requests and no violation, the probability that one request is a violation is below 3/n with 95 % confidence (rule of three).
What that is worth shows the second run: how many requests the same attack takes where a field is loaded twice.
"""

import re
import subprocess
import time

from common import BUILD

ARMS = 96
SUM = re.compile(r"(\d+) arms, (\d+) broken, (\d+) raced requests, (\d+) of them refused, (\d+) words changed, (\d+) violations")
CONTROL = re.compile(r"(\d+) messages, (\d+) times up, (\d+) guests, (\d+) words changed, (\d+) violations")


def ask(program, args, say):
    """The numbers of the line that closes it, and everything that it said."""
    r = subprocess.run([f"{BUILD}/tests/hostile/{program}", *args], capture_output=True, text=True, check=False)
    text = r.stdout + r.stderr
    say(text.strip().splitlines()[-1] if text.strip() else f"{program} said nothing")
    m = (CONTROL if program.startswith("control") else SUM).search(text)
    if not m:
        raise SystemExit(f"{program} {' '.join(args)}: exit {r.returncode}\n{text[-2000:]}")
    return [int(x) for x in m.groups()], r.returncode, text


def run(requests, say=lambda text: None):
    began = time.monotonic()
    (arms, _, n, refused, words, found), rc, text = ask("race", ["-r", str(-(-requests // ARMS)), "-s", str(int(time.time()))], say)
    (arms_off, broken, n_off, _, _, _), rc_off, text_off = ask("race_no_snapshots", ["-x", "-t", "60"], say)
    (messages, up, _, _, wrong), rc_c, text_c = ask("control", ["20"], say)
    (_, _, _, _, wrong_off), rc_co, text_co = ask("control_no_snapshots", ["60", "-x"], say)
    loads = subprocess.run([f"{BUILD}/tests/hostile/loads"], capture_output=True, text=True, check=False)
    say(loads.stdout.strip().splitlines()[-1])
    bad = [t[-500:] for code, t in ((rc, text), (rc_off, text_off), (rc_c, text_c), (rc_co, text_co), (loads.returncode, loads.stdout)) if code]
    return {"arms": arms, "requests": n, "refused": refused, "words_changed": words, "violations": found, "bound_95": 3 / n if not found else None,
            "no_snapshots": {"arms": arms_off, "broken": broken, "requests": n_off}, "control": {"messages": messages, "up": up, "violations": wrong,
                                                                                              "no_snapshots_violations": wrong_off},
            "object_code": loads.stdout.strip().splitlines()[-1], "losses": found + wrong + len(bad), "first_losses": bad[:3],
            "seconds": round(time.monotonic() - began)}
