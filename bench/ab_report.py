# SPDX-License-Identifier: BSD-3-Clause
"""What ./run ab shows: one table on the screen, report.md with everything, and the targets with their measured values.

Only arithmetic on counters and medians: intervals and verdicts belong to the full report.
"""

import statistics

# Of hcalls, in the order of a request's life.
HCALLS = ["H_PUT_TCE", "H_PUT_TCE_INDIRECT", "H_STUFF_TCE", "H_SEND_CRQ", "H_READ_RDMA", "H_COPY_RDMA", "H_WRITE_RDMA",
          "H_GRANT_LOGICAL", "H_ACCEPT_LOGICAL", "H_RETURN_LOGICAL", "H_RESCIND_LOGICAL"]
SERVER, GUEST = "vios", "guest0"


def rate(p):
    return p["run"]["requests"] * 1e9 / p["run"]["elapsed_ns"]


def ns_per_request(p):
    return p["run"]["elapsed_ns"] / p["run"]["requests"]


def size_name(n):
    return f"{n >> 10} KiB" if n >= 1024 else f"{n} B"


def per_request(p, who, key):
    c = p["partitions"].get(who, {})
    v = c.get("hcalls", {}).get(key, 0) if key.startswith("H_") else c.get(key, 0)
    return v / p["run"]["requests"]


def find(results, **want):
    """The point with these values: arm, backend, op, bs, depth."""
    for p in results["points"]:
        have = {"arm": p["arm_asked"], "backend": p["backend"], "op": p["op"], "bs": p["load"]["bs"],
                "depth": p["load"]["depth"]}
        if all(have[k] == v for k, v in want.items()):
            return p
    return None


def keys(results):
    """(backend, bs, depth, op) of the matrix, in order, and the arms in order."""
    seen, arms = [], []
    for p in results["points"]:
        k = (p["backend"], p["load"]["bs"], p["load"]["depth"], p["op"])
        if k not in seen:
            seen.append(k)
        if p["arm_asked"] not in arms:
            arms.append(p["arm_asked"])
    return seen, arms


def round_trip_ns(results):
    """R of this run: the lower of the medians before and after the matrix, so that a disturbed one never flatters."""
    return min(statistics.median(results[part]["round_trip"]["samples_ns"]) for part in ("limits_before", "limits_after"))


def grid(rows, right=True):
    """Text table: first row is the head."""
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    out = []
    for n, r in enumerate(rows):
        out.append("  ".join(c.rjust(w) if right and i else c.ljust(w) for i, (c, w) in enumerate(zip(r, width))))
        if n == 0:
            out.append("  ".join("-" * w for w in width))
    return "\n".join(out)


def md_table(rows):
    head = "| " + " | ".join(rows[0]) + " |\n|" + "|".join(" --- " if not i else " ---: " for i in range(len(rows[0])))
    return head + "|\n" + "\n".join("| " + " | ".join(r) + " |" for r in rows[1:])


def throughput_rows(results, backend):
    ks, arms = keys(results)
    rows = [["operation", *arms]]
    for be, bs, depth, op in ks:
        if be != backend:
            continue
        base = find(results, arm="copy", backend=be, bs=bs, depth=depth, op=op)
        row = [f"{op} {size_name(bs)}, depth {depth}"]
        for arm in arms:
            p = find(results, arm=arm, backend=be, bs=bs, depth=depth, op=op)
            if not p:
                row.append("-")
                continue
            ratio = f" ({rate(p) / rate(base):.1f}x)" if base and p is not base else ""
            row.append(f"{rate(p) / 1e3:.1f}k{ratio}")
        rows.append(row)
    return rows


def latency_rows(results, backend):
    ks, arms = keys(results)
    rows = [["operation", *(f"{a}: p50 / p99 / p99.9 us" for a in arms)]]
    for be, bs, depth, op in ks:
        if be != backend:
            continue
        row = [f"{op} {size_name(bs)}, depth {depth}"]
        for arm in arms:
            p = find(results, arm=arm, backend=be, bs=bs, depth=depth, op=op)
            lat = p["run"]["latency_ns"] if p else None
            row.append(" / ".join(f"{lat[q] / 1e3:.2f}" for q in ("p50", "p99", "p99.9")) if p else "-")
        rows.append(row)
    return rows


def count_text(v):
    """A count per request: 0 is exactly none, in all requests of the point."""
    return "<0.001" if 0 < v < 0.0005 else f"{v:.3f}".rstrip("0").rstrip(".")


def counter_rows(results, backend, bs, depth, op):
    _, arms = keys(results)
    pts = [find(results, arm=a, backend=backend, bs=bs, depth=depth, op=op) for a in arms]
    rows = [["per request", *arms]]

    def add(label, fn):
        rows.append([label, *("-" if not p else count_text(fn(p)) for p in pts)])

    for h in HCALLS:
        for who in (GUEST, SERVER):
            if any(p and per_request(p, who, h) for p in pts):
                add(f"{'guest' if who == GUEST else 'server'} {h}", lambda p, h=h, who=who: per_request(p, who, h))
    add("hypercalls, both", lambda p: sum(per_request(p, w, h) for w in (GUEST, SERVER) for h in HCALLS))
    add("TCE updates", lambda p: per_request(p, GUEST, "tce_updates") + per_request(p, SERVER, "tce_updates"))
    add("bytes copied by RDMA", lambda p: per_request(p, GUEST, "rdma_bytes") + per_request(p, SERVER, "rdma_bytes"))
    add("bytes copied by the guest", lambda p: per_request(p, GUEST, "cpu_bytes"))
    add("bytes copied by the server", lambda p: per_request(p, SERVER, "cpu_bytes"))
    add("kicks", lambda p: per_request(p, GUEST, "kicks"))
    add("interrupts raised", lambda p: per_request(p, GUEST, "irq_raised") + per_request(p, SERVER, "irq_raised"))
    add("... that found a sleeper", lambda p: per_request(p, GUEST, "irq_wakes") + per_request(p, SERVER, "irq_wakes"))
    return rows


def copy_formula(p):
    """What docs/architecture.md derives for one request of the copy arm at depth 1: {counter: (expected, measured)}."""
    n, bs = p["queue_size"], p["load"]["bs"]
    pages = 2 + max(1, -(-bs // 4096))  # header, data, status: an entry each
    expect = {(GUEST, "H_PUT_TCE_INDIRECT"): 1, (GUEST, "H_STUFF_TCE"): 1, (GUEST, "H_SEND_CRQ"): 1,
              (GUEST, "tce_updates"): 2 * pages, (GUEST, "kicks"): 1, (SERVER, "H_READ_RDMA"): 2,
              (SERVER, "H_COPY_RDMA"): 3 + -(-bs // (128 << 10)), (SERVER, "H_WRITE_RDMA"): 2,
              (SERVER, "H_SEND_CRQ"): 1, (SERVER, "rdma_bytes"): 26 * n + 12 + 16 + bs + 1}
    return {f"{w} {k}": (v, per_request(p, w, k)) for (w, k), v in expect.items()}


def memcpy_like(results, bs, backend_span, buffers):
    """One core's memcpy for the same block size and cache level as the memory backend's copy: GB/s (the better run's) and
    the footprint."""
    got = [m for part in ("limits_before", "limits_after") for m in results[part]["memcpy"] if m["size_bytes"] == bs]
    if not got:
        return None, None
    want = backend_span + bs * buffers
    nearest = min(got, key=lambda m: abs(m["footprint_bytes"] - want))["footprint_bytes"]
    return max(m["gb_per_s"] for m in got if m["footprint_bytes"] == nearest), nearest


def handover_like(results, bs, depth):
    """GB/s of one core's copies into `depth` slots of `bs` that the other core reads and gives back; None without."""
    got = [h["gb_per_s"] for part in ("limits_before", "limits_after") for h in results[part].get("memcpy_handover") or []
           if h["size_bytes"] == bs and h["depth"] == depth and h["consumer_reads"]]
    return max(got) if got else None


def targets(results):
    """[name, wanted, measured, met]"""
    rows, r = [], round_trip_ns(results)
    for depth, limit in ((1, 2.5), (32, 0.35)):
        p = find(results, arm="zero-copy", backend="null", op="read", bs=4096, depth=depth)
        if p:
            v = ns_per_request(p) / r
            rows.append([f"zero-copy, null, 4 KiB reads, depth {depth}", f"at most {limit} R a request",
                         f"{v:.2f} R ({ns_per_request(p):.0f} ns; R = {r:.0f} ns)", v <= limit])
    zc = [p for p in results["points"] if p["arm_asked"] == "zero-copy"]
    if zc:
        bad = {}
        for p in zc:
            for who in (GUEST, SERVER):
                c = p["partitions"][who]
                for k, v in (("hypercalls", sum(c["hcalls"].values())), ("TCE updates", c["tce_updates"]),
                             ("RDMA bytes", c["rdma_bytes"])):
                    bad[k] = bad.get(k, 0) + v
        total = sum(p["run"]["requests"] for p in zc)
        rows.append(["zero-copy, steady state, all points", "0 hypercalls, 0 TCE updates, 0 RDMA bytes",
                     ", ".join(f"{v} {k}" for k, v in bad.items()) + f" in {total} requests", not any(bad.values())])
    p = find(results, arm="zero-copy", backend="memory", op="read", bs=65536, depth=32)
    if p:
        gb = p["run"]["bytes_read"] / p["run"]["elapsed_ns"]
        ref, fp = memcpy_like(results, 65536, p["load"]["span"], p["load"].get("buffers", 32))
        if ref:
            hand = handover_like(results, 65536, 32)
            rows.append(["zero-copy, memory, 64 KiB reads, depth 32", "at least 0.85 of one core's memcpy",
                         f"{gb / ref:.2f} ({gb:.2f} of {ref:.2f} GB/s at {fp >> 20} MiB; the guest verifies every byte"
                         + (f"; a copy that another core reads: {hand:.2f})" if hand else ")"), gb / ref >= 0.85])
    for bs in (512, 4096, 65536):
        p = find(results, arm="copy", backend="memory", op="read", bs=bs, depth=1)
        if p:
            off = {k: v for k, v in copy_formula(p).items() if abs(v[0] - v[1]) > 1e-9}
            rows.append([f"copy, {size_name(bs)} reads, depth 1: counters", "equal to the formula",
                         "equal" if not off else "; ".join(f"{k}: {m:.4f}, formula {e}" for k, (e, m) in off.items()),
                         not off])
    if results["machines"]:
        worst = max(m["start_seconds"] for m in results["machines"])
        rows.append(["start-up of three programs, disk configured", "under 2 s", f"{worst:.2f} s (slowest of "
                     f"{len(results['machines'])})", worst < 2])
    return rows


def target_table(results):
    return [["target", "wanted", "measured", "met"], *([n, w, m, "yes" if ok else "NO"] for n, w, m, ok in
                                                      targets(results))]


def limit_lines(results):
    b = results["limits_before"]
    stolen = sum(1 for p in results["points"] if p.get("steal_ticks"))
    return [f"host took time away during {stolen} of {len(results['points'])} points (steal in /proc/stat; not left out)",
            f"R, core-to-core round trip: {round_trip_ns(results):.0f} ns (the lower median of the limits runs before and after)",
            f"system call {b['syscall']['median_ns']:.0f} ns, eventfd wake of a sleeping thread "
            f"{b['eventfd_wake']['one_way_ns'] / 1e3:.1f} us",
            "memcpy: " + ", ".join(f"{size_name(m['size_bytes'])} in {m['level']} {m['gb_per_s']:.1f} GB/s"
                                   for m in b["memcpy"] if m["size_bytes"] in (4096, 65536))]


def screen(results):
    ks, _ = keys(results)
    out = []
    for be in dict.fromkeys(k[0] for k in ks):
        note = (" (the backend touches no data and nothing is verified; rdma and bounce still move the payload, so ratios at"
                " large sizes compare moving with not moving)" if be == "null" else " (every byte verified)")
        out += [f"\nrequests per second, {be} backend{note}", grid(throughput_rows(results, be))]
    if any(k[:3] == ("memory", 4096, 1) for k in ks):
        out += ["\nper request: memory backend, 4 KiB read, depth 1",
                grid(counter_rows(results, "memory", 4096, 1, "read"))]
    out += ["\nwhat this machine can do", *limit_lines(results), "\ntargets", grid(target_table(results), right=False)]
    out += [f"\nleft out: {line}" for line in results.get("skipped", [])]
    out += [f"\ncosts injected: {results['cost']}" + (" (nothing)" if results["cost"] == "free" else "")]
    return "\n".join(out)


def markdown(results):
    ks, _ = keys(results)
    env, out = results["environment"], []
    out += ["# virtio-vio: the arms compared", "",
            f"{results['when']}, commit {env['commit']}{' with local changes' if env['dirty'] else ''}, {env['cpu']}, "
            f"kernel {env['kernel']}, {env['compiler']}, DPDK {env['dpdk']}. Guest on core "
            f"{results['cores']['guest_core']}, server on core {results['cores']['server_core']} "
            f"({results['cores'].get('reason', '')}). Injected costs: **{results['cost']}**.", "",
            "One run of each point, in order: a first look. It has no intervals and proves no difference; "
            "neighbouring numbers within a few percent are the same number.", "", "## Targets", "",
            md_table(target_table(results)), "", "## What this machine can do at best", ""]
    out += [f"- {line}" for line in limit_lines(results)]
    for be in dict.fromkeys(k[0] for k in ks):
        note = ("The null backend touches no data, so nothing is verified. Levels rdma and bounce still move the payload: at "
                "large sizes these ratios compare moving bytes with not moving them, and say nothing about a disk."
                if be == "null" else "The guest wrote patterns and checked every byte that it read.")
        out += ["", f"## {be} backend", "", note, "", "Requests per second (ratio to copy):", "",
                md_table(throughput_rows(results, be)), "", "Latency:", "", md_table(latency_rows(results, be))]
        for bs, depth, op in dict.fromkeys(k[1:] for k in ks if k[0] == be):
            out += ["", f"Per request, {op} {size_name(bs)}, depth {depth}:", "",
                    md_table(counter_rows(results, be, bs, depth, op))]
    out += ["", *(f"Left out: {line}." for line in results.get("skipped", []))]
    out += ["", "## Machines", "", md_table([["arm, backend", "start-up s", "server resident MiB", "server hugepages MiB"],
            *([f"{m['arm']}, {m['backend']}", f"{m['start_seconds']:.2f}",
               f"{m['server_memory'].get('vmrss_bytes', 0) / 2**20:.1f}",
               f"{m['server_memory'].get('hugetlbpages_bytes', 0) / 2**20:.0f}"] for m in results["machines"])]), ""]
    return "\n".join(out)
