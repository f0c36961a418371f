#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The arrows between the parts of the tree: who may include whom. Fails with the offending lines."""

import os
import re
import sys

# part -> parts whose headers it may include, besides its own and include/vio
MAY = {"common": set(), "proto": set(), "phyp": {"proto"}, "duet": set(), "notify": set(), "vq": set(), "guest": {"proto", "notify", "vq", "duet"}, "server": {"proto", "notify", "vq", "duet"},
       "bench": {"duet"}}
# Inside a part whose folders stand on one another: folder -> those that it may include, besides its own.
INSIDE = {"phyp": {"state": set(), "core": {"state"}, "filter": {"core", "state"}, "carrier": {"core", "state"},
                   "phypd": {"carrier", "core", "state"}}}
FOLDER = re.compile(r'#\s*include\s*"(\w+)/(\w+)/')
# Headers of the guest's programs that the load of the disk's peers shares, so that both measure the same.
SHARED = {("bench", '#include "guest/prog/hist.h"'), ("bench", '#include "guest/prog/measure.h"'),
          ("bench", '#include "guest/prog/pattern.h"')}
DPDK = re.compile(r'#\s*include\s*[<"]rte_')
PART = re.compile(r'#\s*include\s*"(common|proto|phyp|notify|vq|duet|guest|server|bench|tests)/')
# The few files behind which DPDK stays.
DPDK_FILES = {"bench/peers/blk_server.c", "server/dpdk/lcore.c", "server/dpdk/lcore_priv.h", "server/dpdk/lcore_set.c", "server/dpdk/telemetry.c", "server/dpdk/eal.c", "server/dpdk/thash.c", "server/switch/switch_fdb.c", "server/ports/ethdev.c", "server/ports/ethdev_link.c", "server/ports/ethdev_probe.c", "server/ports/ethdev_rx.c", "server/ports/ethdev_tx.c", "server/ports/ethdev_place.c", "server/ports/ethdev_priv.h"}


def inside(rel, line):
    """The folders of an arrow inside a part that may not be, or None."""
    part, folder = rel.split("/")[:2]
    m = FOLDER.search(line)
    if part not in INSIDE or not m or m.group(1) != part or m.group(2) in (folder, *INSIDE[part].get(folder, ())):
        return None
    return f"{part}/{folder}/ may not include {part}/{m.group(2)}/"


def problems(root):
    for part, allowed in MAY.items():
        for folder, _, files in os.walk(os.path.join(root, part)):
            for name in (f for f in files if f.endswith((".c", ".h"))):
                path = os.path.join(folder, name)
                rel = os.path.relpath(path, root)
                with open(path, encoding="utf-8") as f:
                    for n, line in enumerate(f, 1):
                        m = PART.search(line)
                        if m and m.group(1) not in (part, "common") and m.group(1) not in allowed and (part, line.strip()) not in SHARED:
                            yield f"{rel}:{n}: {part}/ may not include {m.group(1)}/"
                        if wrong := inside(rel, line):
                            yield f"{rel}:{n}: {wrong}"
                        if DPDK.search(line) and rel not in DPDK_FILES:
                            yield f"{rel}:{n}: DPDK header outside {', '.join(sorted(DPDK_FILES))}"


def main():
    root = sys.argv[1]
    bad = list(problems(root))
    print("\n".join(bad))
    # The check itself is checked: a planted violation in each direction must be found.
    assert PART.search('#include "guest/dev/blk/blk.h"') and DPDK.search("#include <rte_eal.h>")
    assert inside("phyp/core/a.c", '#include "phyp/carrier/b.h"') and not inside("phyp/carrier/a.c", '#include "phyp/core/b.h"')
    print(f"{0 if bad else 1} passed, {1 if bad else 0} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
