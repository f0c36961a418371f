# SPDX-License-Identifier: BSD-3-Clause
"""One picture of the two data paths with what was measured of each step: hand-made SVG, two panels that may be stacked.

The steps are those of docs/architecture.md section 4. What a step costs in calls, TCE updates and bytes follows from
the protocol, and is compared with the counters of the samples. Nanoseconds of a step come from the model that was fitted to the
counters (analyses/cycles_model.py) when the run has one that is good enough; those of the whole request are always measured.
"""

import numpy as np

from ab.report import plots
from ab.instrument.model import Point, size_name

ARMS = ("copy", "zero-copy")
COUNTERS = ("hcalls", "tce_updates", "rdma_bytes", "rdma_calls", "guest_bytes", "server_bytes", "kicks", "irqs", "wakes")
POINT = Point(backend="memory", op="read", bs=4096, depth=1)
NULL = Point(backend="null", op="read", bs=4096, depth=1)
PREFERRED = ("quick", "ladder", "costs", "load", "sizes")


# --- what was measured --------------------------------------------------------------------------------------------------

def measure(ctx, sections=()):
    """What the picture needs, JSON-able, from the samples: one 4 KiB read at a time from memory. {}: not measured.

    sections: of the analyses that ran before, for the fitted constants.
    """
    from ab import stats
    from ab.analyses import cycles_model
    names = {s.experiment for s in ctx.samples}
    for name in [n for n in PREFERRED if n in names] + sorted(names.difference(PREFERRED)):
        taken = {arm: ctx.of(name).at(POINT, arm) for arm in ARMS}
        if not all(len(s) for s in taken.values()):
            continue
        arms = {}
        for arm, samples in taken.items():
            ns = samples.values("ns_per_request")
            check = np.array([s.values["ns_per_request"] - s.values["mean_latency_ns"] for s in samples
                              if "mean_latency_ns" in s.values])
            arms[arm] = {"ns": stats.median(ns).data(), "check": float(np.median(check)) if len(check) else None, "counters": {
                c: float(np.median(samples.values(c))) for c in COUNTERS if len(samples.values(c))}}
        null = ctx.of(name).at(NULL, "zero-copy")
        # Latency ends before the guest checks the bytes, which it does with the memory backend only; time a request does not. It is
        # of whole starts, so not of one plateau: windows give the difference with the check.
        checked = not any("mean_latency_ns" in s.values for s in null)
        moving, still = taken["zero-copy"].paired(null, "ns_per_request" if checked else "mean_latency_ns")
        return {"experiment": name, "command": ctx.command(name), "bs": POINT.bs, "queue_size": POINT.queue_size,
                "arms": arms, "r_ns": ctx.r_ns, "plateau": ctx.plateau_name() if any(s.plateau >= 0 for s in taken["copy"]) else "",
                "checked": checked, "move": stats.median(moving - still).data() if len(still) else None,
                "constants": cycles_model.constants(sections, POINT.depth)}
    return {}


# --- the steps ----------------------------------------------------------------------------------------------------------

def steps(arm, bs, n):
    """[{who, to, what, ...counters}] of one read of bs bytes at depth 1 with a ring of n entries.

    who: the partition that acts; to: where its effect goes: "hypervisor", "server", "guest", or "" for its own memory;
    kind: call, copy (by RDMA), line (a cache line that moves between the cores), own, data.
    """
    pages = 2 + max(1, -(-bs // 4096))
    if arm == "copy":
        def rdma(what, size, to, calls=1):
            return {"who": "server", "kind": "copy", "to": to, "what": what, "hcalls": calls, "rdma_calls": calls,
                    "rdma_bytes": size}
        return [
            {"who": "guest", "kind": "call", "to": "hypervisor", "what": "map", "hcalls": 1, "tce_updates": pages},
            {"who": "guest", "kind": "own", "to": "", "what": "write descriptors, index"},
            {"who": "guest", "kind": "call", "to": "server", "what": "kick", "hcalls": 1, "irqs": 1, "kicks": 1},
            rdma("available index", 4, "server"),
            rdma("available ring", 2 * n + 2, "server"),
            rdma("descriptor table", 16 * n, "server"),
            rdma("request header", 16, "server"),
            {**rdma("data", bs, "guest", -(-bs // (128 << 10)))},
            rdma("status", 1, "guest"),
            rdma("used elements", 8 * n + 2, "guest"),
            rdma("used index", 4, "guest"),
            {"who": "server", "kind": "call", "to": "guest", "what": "used notification", "hcalls": 1, "irqs": 1},
            {"who": "guest", "kind": "call", "to": "hypervisor", "what": "unmap", "hcalls": 1, "tce_updates": pages},
        ]
    return [
        {"who": "guest", "kind": "own", "to": "", "what": "write header, descriptors"},
        {"who": "guest", "kind": "line", "to": "server", "what": "index: the server polls it", "round": True},
        {"who": "server", "kind": "line", "to": "server", "what": "descriptors, header in place"},
        {"who": "server", "kind": "data", "to": "guest", "what": "data, moved once", "server_bytes": bs},
        {"who": "server", "kind": "line", "to": "guest", "what": "status, used element"},
        {"who": "server", "kind": "line", "to": "guest", "what": "index: the guest polls it", "round": True},
    ]


def totals(arm, bs, n):
    """{counter: sum over the steps}: what the protocol says of one request."""
    out = dict.fromkeys(("hcalls", "tce_updates", "rdma_bytes", "rdma_calls", "kicks", "irqs"), 0)
    for s in steps(arm, bs, n):
        for k in out:
            out[k] += s.get(k, 0)
    return out


def step_ns(step, constants):
    """Fitted ns of a step: the constants of the counters that it moves, or None without a constant for any of them."""
    ns = [constants[k]["estimate"] * step[k] for k in COUNTERS if k in step and k in constants]
    return sum(ns) if ns else None


def mismatch(data):
    """Counters that the samples and the protocol's sum disagree on: ["copy: hcalls 12.4, the steps say 12"]."""
    out = []
    for arm in ARMS:
        counted = data["arms"][arm]["counters"]
        for k, v in totals(arm, data["bs"], data["queue_size"]).items():
            if k in counted and abs(counted[k] - v) > 0.005 * max(v, 1):
                out.append(f"{arm}: {k.replace('_', ' ')} {counted[k]:.4g} counted, the steps add up to {v}")
    return out


def _range(iv):
    level = f"{iv['level'] * 100:g} % interval " if "level" in iv else ""
    n = f", n = {iv['n']}" if "n" in iv else ""
    return f"{plots.ns_text(iv['estimate'])} [{level}{plots.ns_text(iv['low'])} to {plots.ns_text(iv['high'])}{n}]"


# --- the picture --------------------------------------------------------------------------------------------------------

WIDTH, ROW, TOP = 420, 31, 52
LANES = {"guest": 34, "hypervisor": 152, "server": 270}
RIGHT = WIDTH - 4
INK, SOFT, RULE, PAPER, PANEL = (f"var(--p-{t}, {plots.PALETTE[t][0]})" for t in ("ink", "soft", "rule", "paper", "panel"))


def _colour(arm):
    return f"var(--p-arm-{arm}, {plots.ARM_COLOUR[arm]})"


def _esc(t):
    return str(t).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _text(x, y, text, size=12, anchor="start", fill=INK, weight=400, halo=False):
    under = f' stroke="{PAPER}" stroke-width="3.5" paint-order="stroke"' if halo else ""
    return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{under} '
            f'style="font-size: {size}px; fill: {fill}; font-weight: {weight}">{_esc(text)}</text>')


def _line(x1, y1, x2, y2, stroke, width=1.0, dash=""):
    d = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke-width="{width:g}"{d} '
            f'style="stroke: {stroke}"/>')


def _arrow(x1, x2, y, stroke, width=1.6, dash=""):
    s = 6 if x2 > x1 else -6
    head = f'<path d="M {x2:g} {y:g} l {-s:g} -3.6 l 0 7.2 z" style="fill: {stroke}"/>'
    return _line(x1, y, x2 - s * 0.8, y, stroke, width, dash) + head


def cost_text(step):
    """Right-hand column: what the step takes, in counts."""
    parts = []
    if step.get("hcalls"):
        parts.append("1 call" if step["hcalls"] == 1 else f"{step['hcalls']} calls")
    if step.get("tce_updates"):
        parts.append(f"{step['tce_updates']} TCEs")
    if step.get("rdma_bytes"):
        parts.append(f"{step['rdma_bytes']:,} B")
    if step.get("irqs"):
        parts.append("interrupt")
    if step["kind"] == "data":
        parts.append(f"{step['server_bytes']:,} B")
    if not parts:
        parts.append("own memory" if step["kind"] == "own" else "no call")
    return ", ".join(parts)


def _row(step, y, arm, ns):
    """One step at height y: its arrow, its words above it, its cost at the right."""
    g, h, s = LANES["guest"], LANES["hypervisor"], LANES["server"]
    c, kind = _colour(arm), step["kind"]
    out = []
    if kind == "own":
        out.append(f'<rect x="{g - 4}" y="{y - 9}" width="8" height="12" rx="2" style="fill: {c}"/>')
        out.append(_text(g + 10, y + 1, step["what"], halo=True))
    elif step["to"] == "hypervisor":
        out += [_arrow(g, h, y, c), _text(g + 8, y - 5, step["what"], halo=True)]
    else:
        a, b = (g, s) if step["to"] == "server" else (s, g)
        width = {"call": 1.6, "copy": 2.6, "line": 1.4, "data": 4}[kind]
        out.append(_arrow(a, b, y, c, width, "5 3" if kind == "call" else ""))
        if kind in ("copy", "call"):  # passes through the hypervisor
            out.append(f'<circle cx="{h}" cy="{y:g}" r="3.6" stroke-width="1.4" style="fill: {PAPER}; stroke: {c}"/>')
        out.append(_text(g + 8, y - 5, step["what"], halo=True))
    out.append(_text(RIGHT, y - (4 if ns else -2), cost_text(step), 11, "end", SOFT))
    if ns:
        out.append(_text(RIGHT, y + 9, ns, 11, "end", INK, 600))
    return "".join(out)


def step_time(step, arm, data):
    """Measured or fitted time of a step as text, "" when there is none."""
    fitted = step_ns(step, data.get("constants") or {})
    if fitted is not None and arm == "copy":
        return f"≈ {plots.ns_text(fitted)}"
    if step["kind"] == "data" and data.get("move"):
        move = data["move"]["estimate"]
        return f"+ {plots.ns_text(move)}" if move > 0 else ""
    if step.get("round") and data.get("r_ns"):
        return f"≥ R/2 = {plots.ns_text(data['r_ns'] / 2)}"
    return ""


def _total(arm, data, y, longest):
    """The measured time of the whole request as a bar on the scale that both panels share."""
    ns = data["arms"][arm]["ns"]
    c = data["arms"][arm]["counters"]
    full = WIDTH - 8
    w = full * ns["estimate"] / longest
    counted = ", ".join(f"{c[k]:,.4g} {name}" if c[k] < 1000 else f"{c[k]:,.0f} {name}" for k, name in (
        ("hcalls", "calls"), ("tce_updates", "TCE updates"), ("rdma_bytes", "B by RDMA"), ("irqs", "interrupts")) if k in c)
    out = [_line(4, y - 24, RIGHT, y - 24, RULE),
           _text(4, y - 6, f"{plots.ns_text(ns['estimate'])} a request", 15, weight=650),
           _text(RIGHT, y - 6, f"{ns['level'] * 100:g} % interval {plots.ns_text(ns['low'])} to "
                 f"{plots.ns_text(ns['high'])}, n = {ns['n']}", 11, "end", SOFT),
           f'<rect x="4" y="{y + 1}" width="{full}" height="10" rx="2" style="fill: {PANEL}"/>',
           f'<rect x="4" y="{y + 1}" width="{w:.1f}" height="10" rx="2" style="fill: {_colour(arm)}"/>']
    if data.get("r_ns"):
        x = 4 + full * data["r_ns"] / longest
        out += [_line(x, y - 1, x, y + 15, INK, 1.5), _text(x + 4, y + 23, f"R = {plots.ns_text(data['r_ns'])}", 11, fill=SOFT)]
    if counted:
        out.append(_text(4, y + 40, f"counted: {counted}", 11, fill=SOFT))
    return "".join(out)


def panel(arm, data, id):
    """SVG of one design; its height follows the number of steps."""
    rows = steps(arm, data["bs"], data["queue_size"])
    bottom = TOP + ROW * len(rows) + (30 if arm == "zero-copy" else 6)
    height = bottom + 74
    title = f"{arm}: one {size_name(data['bs'])} read, one at a time"
    words = "; ".join(f"{s['who']}: {s['what']} ({cost_text(s)})" for s in rows)
    out = [plots.svg_head(id, WIDTH, height, title, f"Steps in order. {words}.")]
    for name, x in LANES.items():
        faint = arm == "zero-copy" and name == "hypervisor"
        out.append(_line(x, 36, x, bottom - 6, RULE, 1 if faint else 1.5, "2 4" if faint else ""))
        out.append(_text(4 if name == "guest" else x, 27, name, 12.5, "start" if name == "guest" else "middle",
                         SOFT if faint else INK, 600))
    out.append(_text(RIGHT, 27, "cost of the step", 11, "end", SOFT))
    longest = 1.02 * max(data["arms"][a]["ns"]["estimate"] for a in ARMS)
    for i, s in enumerate(rows):
        out.append(_row(s, TOP + ROW * i + 14, arm, step_time(s, arm, data)))
    if arm == "zero-copy":
        out.append(_text(LANES["guest"] + 8, bottom - 14, "The hypervisor granted the windows at start-up: not in a request.", 11,
                         fill=SOFT, halo=True))
    out.append(_total(arm, data, bottom + 28, longest))
    return "\n".join(out) + "\n</svg>"


def panels(data, id="paths"):
    """[(arm, title, svg)] of the picture: side by side where there is room, stacked on a phone."""
    titles = {"copy": "copy: the 2010 design", "zero-copy": "zero-copy: rings and data in place"}
    return [(arm, titles[arm], panel(arm, data, f"{id}-{arm}")) for arm in ARMS]


def caption(data):
    """What the picture shows and how its numbers came about."""
    out = [f"One {size_name(data['bs'])} read at a time from the memory backend, {data['queue_size']} entries in the ring. "
           "A ring on a line: the hypervisor carries the step. Thick: bytes are copied. The bars share one scale; R is "
           "the round trip of one cache line between the two cores, which no request can beat."]
    if data.get("constants"):
        said = ", ".join(f"{k.replace('_', ' ')} {_range(c)}" for k, c in data["constants"].items() if k in COUNTERS)
        out.append(f"Times marked ≈ are fitted: work prices of the time model ({said}) times the counts of the step.")
    if data.get("move"):
        out.append("The time marked + is the memory backend's " + ("time a request less the null backend's, so with the guest's check "
                   "of every byte, " if data.get("checked") else "latency less the null backend's, ")
                   + f"block by block: {_range(data['move'])}.")
    if data.get("plateau"):
        out.append(f"Times hold for {data['plateau']}.")
    checks = {arm: a.get("check") for arm, a in data["arms"].items()}
    if all(v is not None for v in checks.values()):
        out.append("After its answer the guest checks every byte of a request, and this time is in the totals too: "
                   + ", ".join(f"{v:,.0f} ns with {arm}" for arm, v in checks.items()) + ".")
    off = mismatch(data)
    out.append("The counters of the samples equal the sum of the steps." if not off else
               "The counters of the samples differ from the sum of the steps: " + "; ".join(off) + ".")
    return " ".join(out)
