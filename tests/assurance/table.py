# SPDX-License-Identifier: BSD-3-Clause
"""docs/assurance.md from docs/assurance/*.json: what was tried, how often, and what it cost anybody. Nothing is run."""

import json
import os

HEAD = """# Assurance

What was tried against this tree, and what was lost. `./run assurance table` makes this page from `docs/assurance/*.json`, which
`./run assurance race`, `kills`, `soak`, `fuzz`, `models` and `cost` write; each row is of the command that it names. Who attacks what,
and what is not protected: docs/threat-model.md.

| what | how much | losses | command |
| --- | --- | ---: | --- |
"""

TAIL = """
## What the rows mean

- **Raced requests.** `tests/hostile/race.c`: a second thread writes wrong values into every word that a guest can reach (descriptors,
  indices, headers, ranges, indirect tables, frames, events) while the server's lcore works on requests, in every level of ring access
  (copy, copy-delta, direct) and payload (rdma, direct), every layout, for a disk with a store, a disk in server memory, and both directions of a network card. The
  oracle sits between the server's tables and works out a second time what the store, the status byte, the used ring and the switch may
  get; in place, the server's mappings have the permission that was granted and nothing around them. A loss is a use that
  differs from what was judged, an address outside of the windows, or a fault of the processor. `unchecked` is left out: it checks
  nothing.
- **Without snapshots** is the same attack on a server built with `VIO_SNAPSHOTS=0` (`-Dsnapshots=false` builds vios so): it must be
  broken in every arm, and how soon it is says what the row above is worth.
- **Messages.** `tests/hostile/control.c`: what messages point to (features, levels, announcements of windows, rings) changes between two
  loads and meanwhile, with stray messages; what the adapter has accepted is judged again.
- **Object code.** `tests/hostile/loads.c` closes the server's mappings of the guest, decodes each instruction that loads from them, and counts
  the loads of each byte. A planted double load is found first; a server without snapshots fails in every arm.
- **Kills.** `tests/assurance/kills.py`: kill -9 of phypd, vios, the guest (nbdkit with the plugin) and an NBD store, at a random moment
  or at the n-th hypervisor call from a program's start on (`--fault ANY@N=DIE`), in six arms, under four clients that write, read back and flush.
  A loss is a block with an older generation than was acknowledged (also later, when a write lands that was given up), a torn one, a client that
  gets no answer in 40 s, or a program that ends by a signal that nobody sent.
- **Soak.** `tests/assurance/soak.py`: a verifying load on one guest while another comes, works and goes; descriptors and threads of
  phypd and vios may not grow, private memory by 2 MiB at most.
- **Fuzz** and **models** are `./run fuzz` and `tests/system/test_model.py --long`, counted.
- **Cost.** `tests/assurance/cost.py`: vios beside one that was built with `-Dsnapshots=false`, in pairs of runs of machines started anew,
  ratio of the time of a request, median and 95 % interval.

Bound: n requests without a violation say, with 95 % confidence, that less than 3/n of requests are one (rule of three).

## What was found, and is mended

| by | what | test |
| --- | --- | --- |
| kills, phypd under load | a guest that repeats INIT each 250 ms never heard a server that takes longer to answer | `guest/transport_faults`: server_slower_than_the_greeting_is_repeated_comes_up |

## Other faults, and the tests that show them

| fault | test |
| --- | --- |
| SIGSTOP of a guest, also inside a call with its locks held | system_kill: a_guest_stopped_inside_a_hypercall_keeps_nobody_waiting, ..._goes_on_when_it_is_continued |
| SIGSTOP of the server | system_waits: a_signal_ends_vio_blk_while_the_server_is_stopped, a_signal_ends_nbdkit_while_the_server_is_there_and_does_not_answer |
| full CRQ, the server's | guest/transport_faults: full_server_queue_makes_a_kick_wait_and_then_try_later, full_queue_at_any_message_is_waited_for |
| full CRQ, the guest's | server/adapter_life: answers_that_find_the_guests_queue_full_are_not_lost; server/squeue: a_full_guest_queue_delays_a_notification_but_never_loses_it |
| errors of a store | server/backend_file_errors: an_errno_of_the_kernel_reaches_the_request; server/backend_nbd: an_error_of_the_server_fails_that_request_only; server/blk_stop |
| short reads | server/backend_file_errors: a_file_cut_short_gives_an_error_not_old_bytes |
| no space | system_disk_stop: a_full_file_system_stops_the_disk_until_there_is_room |
| a store that hangs | system_waits: a_signal_ends_the_server_while_its_store_does_not_answer_and_it_names_the_disk; server/backend_nbd: a_server_that_never_answers_is_given_up |
| NBD server away and back | system_disk_nbd: requests_wait_for_a_server_that_comes_back_in_time, a_server_that_is_killed_under_load_leaves_every_byte_right |
| out of descriptors | system_disk_host: no_more_descriptors_is_an_error_of_the_guest_that_comes_and_not_of_the_server |
| out of memory | server/adapter_windows: a_withdrawal_that_finds_no_memory_leaves_the_window_as_it_was |
| no hugepages | system_bad_input: the_server_starts_without_hugepages |
"""


def cost_rows(r):
    of = "; ".join(f"{p}: {x['ns']:.0f} ns a request, {x['ns_without']:.0f} without, ratio {x['ratio']:.3f} ({x['low']:.3f} to {x['high']:.3f}, "
                   f"{x['pairs']} pairs)" for p, x in r["points"].items())
    return row("cost of snapshots, zero-copy", of, "", r)


def read(results, name):
    path = os.path.join(results, name + ".json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def row(what, amount, losses, r):
    return f"| {what} | {amount} | {losses} | `{r['command']}` |\n"


def race_rows(r):
    off, control = r["no_snapshots"], r["control"]
    bound = f"; 95 % bound {r['bound_95']:.1e} a request" if r["bound_95"] else ""
    text = row("attacks tried: words changed by the guest meanwhile", f"{r['words_changed']:,}", r["violations"], r)
    text += row("raced requests", f"{r['requests']:,} in {r['arms']} arms, {r['refused']:,} of them refused{bound}", r["violations"], r)
    text += row("the same without snapshots", f"{off['broken']} of {off['arms']} arms broken, within {off['requests']:,} requests in all", "must be", r)
    text += row("messages whose memory changes", f"{control['messages']:,}, {control['up']:,} times up; without snapshots "
                f"{control['no_snapshots_violations']} accepted", control["violations"], r)
    return text + row("object code", r["object_code"], 0 if " 0 with " in r["object_code"] else "see there", r)


def kills_rows(r):
    by, acked = ", ".join(f"{n} {name}" for name, n in r["by_program"].items()), r["acknowledged"]
    return row("kills survived", f"{r['kills']:,} ({by}); {acked['writes']:,} writes and {acked['flushes']:,} flushes acknowledged meanwhile; "
               f"{acked.get('given_up', 0)} guests gave up in words and were started again, {acked.get('stood_still', 0)} "
               "machines stood still and were not counted", r["losses"], r)


def soak_rows(r):
    arms = ", ".join(f"{a['arm']} {a['seconds'] / 60:.1f} min" for a in r["arms"])
    return row("soak", f"{r['hours']:g} hours ({arms}), {sum(a['requests'] for a in r['arms']):,} requests verified, "
               f"{sum(a['guests'] for a in r['arms']):,} guests came and went", r["losses"], r)


def fuzz_rows(r):
    return row("fuzz executions", f"{r['executions']:,} (" + ", ".join(f"{n} {t['executions']:,}" for n, t in r["targets"].items()) + ")", r["losses"], r)


def models_rows(r):
    by = ", ".join(f"{n} {s:,}" for n, s in r["by_model"].items())
    return row("states searched", f"{r['states']:,} ({by}) in {r['searches']} searches; {r['rules_left_out']} rules left out, an error found for each", r["losses"], r)


def text_of(results):
    text = HEAD
    for name, rows in (("race", race_rows), ("kills", kills_rows), ("fuzz", fuzz_rows), ("models", models_rows), ("soak", soak_rows), ("cost", cost_rows)):
        r = read(results, name)
        text += rows(r) if r else f"| {name} | not run yet | | `./run assurance {name}` |\n"
    return text + TAIL


def write(results, path):
    text = text_of(results)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
