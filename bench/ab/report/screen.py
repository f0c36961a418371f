# SPDX-License-Identifier: BSD-3-Clause
"""What ./run ab prints at the end: the answer, the arms beside each other, the targets. The report has the rest."""

import textwrap

import numpy as np

from ab import stats
from ab.instrument.model import AGAIN

WIDTH = 118


def grid(rows, right=True):
    """Text table: the first row is the head."""
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    out = []
    for n, r in enumerate(rows):
        out.append("  ".join(c.rjust(w) if right and i else c.ljust(w) for i, (c, w) in enumerate(zip(r, width))).rstrip())
        if n == 0:
            out.append("  ".join("-" * w for w in width))
    return "\n".join(out)


def arms_table(ctx, name="quick"):
    """Requests a second of each arm, with the ratio to copy and its interval."""
    own = ctx.of(name)
    slots = [s for s in ctx.experiments[name].slots if s in own.slots() and not s.endswith(AGAIN)]
    where = f", {ctx.plateau_name()}" if ctx.plateau_name() else ""
    rows = [["thousand requests/s (ratio to copy)" + where, *slots]]
    for point in own.points():
        at = own.at(point)
        base, row = at.where(slot="copy"), [point.label()]
        for slot in slots:
            mine = at.where(slot=slot)
            x, y = mine.paired(base, "ns_per_request")
            if not len(mine):
                row.append("-")
                continue
            text = f"{1e6 / np.median(mine.values('ns_per_request')):.1f}"
            if slot != "copy" and len(x) > 2:
                iv = stats.ratio(x, y)
                text += f" ({iv.estimate:.2f} [{iv.low:.2f}, {iv.high:.2f}])"
            row.append(text)
        rows.append(row)
    return grid(rows)


def text(ctx, report):
    out = [""]
    if "quick" in ctx.experiments:
        out += [arms_table(ctx), ""]
    out += ["targets", grid([["target", "wanted", "measured", "99 % interval", "plateau", "answer"],
                             *([t["name"], t["wanted"], t["measured"], t["interval"], t.get("plateau", ""), t["answer"]]
                               for t in report.targets)],
                            right=False), ""]
    out += ["what this machine can do: " + "; ".join(report.limits_lines), ""]
    out += [textwrap.fill(report.headline, WIDTH)]
    out += [textwrap.fill(p, WIDTH, initial_indent="- ", subsequent_indent="  ") for p in report.points]
    return "\n".join(out)
