#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Short runs of what `./run assurance` does at length, and that each of them can fail."""

import os
import sys
import tempfile
import unittest

from common import ROOT, main

sys.path.insert(0, os.path.join(ROOT, "tests/assurance"))
import journal  # noqa: E402
import kills  # noqa: E402
import soak  # noqa: E402
import table  # noqa: E402


class Assurance(unittest.TestCase):
    def test_killed_programs_lose_nothing_that_was_acknowledged(self):
        r = kills.run(4, seed=5, each=2, jobs=2)
        self.assertEqual(r["losses"], 0, r["first_losses"])
        self.assertGreaterEqual(r["kills"], 4)
        self.assertGreater(r["acknowledged"]["writes"], 0)

    def test_the_journal_sees_an_older_a_torn_and_a_foreign_block_and_no_newer_one(self):
        def block(*generations):
            return b"".join(journal.sector(3, g) for g in generations)

        for data, wrong in ((block(*[5] * 8), 0), (block(*[6] * 8), 0), (block(5, 6, 5, 6, 6, 6, 6, 6), 0), (block(*[4] * 8), 1),
                            (block(*[7] * 8), 1), (block(5, 5, 5, 5, 5, 5, 5, 4), 1), (journal.sector(2, 5) * 8, 1),
                            (block(*[5] * 7) + b"x" * 512, 1), (bytes(4096), 1)):
            j = journal.Journal()
            j.acked[3], j.issued[3] = 5, 6
            j.check(3, data, [5], "here")
            self.assertEqual(len(j.lost), wrong, (data[:32], j.lost))

    def test_a_short_soak_leaks_nothing_and_a_leak_is_seen(self):
        r = soak.one_arm("zero-copy", 3)
        self.assertEqual(r["lost"], [])
        self.assertGreater(r["requests"], 0)
        was = {"private_bytes": 1 << 20, "fds": 9, "threads": 3}
        self.assertEqual(soak.leaks(was, was), "")
        for what, more in (("private_bytes", 3 << 20), ("fds", 1), ("threads", 1)):
            self.assertNotEqual(soak.leaks(was, {**was, what: was[what] + more}), "")

    def test_the_page_is_what_its_results_make_of_it(self):
        with open(os.path.join(ROOT, "docs/assurance.md"), encoding="utf-8") as f:
            self.assertEqual(f.read(), table.text_of(os.path.join(ROOT, "docs/assurance")), "./run assurance table makes it anew")
        with tempfile.TemporaryDirectory() as nothing:
            self.assertIn("not run yet", table.text_of(nothing))


if __name__ == "__main__":
    main()
