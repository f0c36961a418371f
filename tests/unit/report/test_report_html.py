#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The report as files: what a reader must be able to rely on, checked on made-up content without a browser."""

import dataclasses
import functools
import html.parser
import math
import os
import re
import sys
import unittest
from xml.etree import ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import numpy as np  # noqa: E402
from ab.report import datapath, plots, report_html, report_md, report_model  # noqa: E402
from ab.analyses import cycles_model  # noqa: E402
from ab.analyses.peers import disk_peers  # noqa: E402
from ab.instrument.model import Context, Figure, Interval, Sample, Samples, Section, Table, Verdict  # noqa: E402

HOSTILE = '<script>alert("x")</script> & </svg> "quoted" | bar'
ARMS = list(plots.NAMED)


def around(v, spread=0.03):
    return Interval(v, v * (1 - spread), v * (1 + spread), 12)


@functools.lru_cache
def bars(id):
    fig, ax = plots.new_figure("wide")
    plots.bars_with_intervals(ax, ARMS, [around(100.0 * (i + 1)) for i in range(4)] + [None], ARMS)
    plots.ns_axis(ax.xaxis)
    return plots.to_svg(fig, id)


@functools.lru_cache
def plane(id):
    fig, ax = plots.new_figure("square")
    x = np.linspace(0, 10, 20)
    plots.region_plane(ax, x, x, np.where(x[:, None] + x > 12, 1, np.where(x[:, None] + x < 8, -1, 0)), "copy", "premapped")
    plots.anchor(ax, 2.5, 0.5, "published & marked <2024>")
    return plots.to_svg(fig, id, title="A & B", description="where <one> wins")


@functools.lru_cache
def lines(id):
    fig, ax = plots.new_figure("narrow")
    sizes = [64 << i for i in range(15)]
    for i, arm in enumerate([*ARMS, "zero-copy,mapping=single-use"]):
        plots.lines_with_band(ax, sizes, [around((i + 1) * (100 + s / 50)) for s in sizes], arm, connect=i % 2 == 0)
        plots.scatter_with_intervals(ax, around(4096.0), around(100.0 * (i + 1)), arm)
    plots.size_axis(ax, sizes)
    ax.set_yscale("log")
    plots.ns_axis(ax.yaxis)
    plots.bound(ax, 281, "R")
    plots.legend_above(ax)
    return plots.to_svg(fig, id)


def figure(id, svg):
    return Figure(id=id, title="Time of a request", svg=svg, caption="Medians with 99 % intervals.", limits="R = 281 ns",
                  command="./run ab quick")


def samples(hcalls=12):
    """Five blocks of copy and zero-copy at the picture's point, with the counters that the protocol gives."""
    counters = {"copy": datapath.totals("copy", 4096, 256) | {"hcalls": hcalls},
                "zero-copy": datapath.totals("zero-copy", 4096, 256)}
    out = []
    for block in range(5):
        for arm, ns in (("copy", 2500.0), ("zero-copy", 1700.0)):
            for point, less in ((datapath.POINT, 0), (datapath.NULL, 600)):
                # The guest checks what memory gave it for 700 ns, after the latency has ended.
                values = {"ns_per_request": ns - less + block, "mean_latency_ns": ns - less + block - (700 if less == 0 else 500),
                          **counters[arm]}
                out.append(Sample("quick", block, "main", 0, arm, arm, point, values))
    return Samples(out)


def context(**kw):
    return Context(samples(**kw), limits=[], environment={}, experiments={}, r_ns=281.0)


@functools.lru_cache
def paths():
    return datapath.measure(context())


def made_up(**kw):
    speed = Verdict("4 KiB reads: zero-copy against copy", "faster", around(1.5), "2,500 ns copy, 1,700 ns zero-copy")
    first = Section(id="ladder", title="What each factor earns", lead="The rings in place earn the most.",
                    figures=[figure("ladder-forward", bars("ladder-forward")), figure("plane", plane("plane"))],
                    tables=[Table("Steps", ["step", "ns", "ratio"], id="ladder-steps",
                                  rows=[["copy", "2,500", "1.00×"], ["in place", "1,700", "0.68×"]])],
                    verdicts=[speed], text=["Further words."])
    second = Section(id="sizes", title="Sizes", lead="In place wins above 8 KiB.", figures=[figure("by-size", lines("by-size"))])
    target = {"name": "zero-copy, null", "wanted": "at most 2.5 R", "measured": "2.3 R", "interval": "2.2 to 2.4",
              "answer": "met"}
    r = report_model.Report(
        title="Copy against zero-copy", when="2026-11-21", headline="Zero-copy takes a third less time.",
        headline_numbers=[speed, report_model.Big("0", "hypercalls")], sections=[first, second], targets=[target],
        limits_lines=["R: 281 ns"], environment={"cpu": "some CPU", "mitigations": {"a": "yes", "b": "no"}, "dirty": True},
        method=["Random blocks."], discarded=Table("Discarded", ["arm", "samples"], [["copy", "2"]]),
        experiments=[{"name": "quick", "title": "the arms", "blocks": 5, "seed": 1}],
        how_to_repeat=[("./run ab", "about 3 minutes"), "./run ab full"], paths=paths())
    return dataclasses.replace(r, **kw)


class Page(html.parser.HTMLParser):
    """Ids, references, tags and figures of a page; void and unbalanced tags are counted."""

    VOID = {"meta", "link", "br", "img", "hr", "input"}

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.tags, self.stack, self.unbalanced = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        for k, v in attrs:
            if k == "id":
                self.ids.append(v)
            if k in ("href", "src", "xlink:href"):
                self.references.append(v)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.unbalanced.append(tag)


def page_of(report):
    """The page's text with ordinary spaces."""
    return report_html.render(report).replace("\u00a0", " ")


def svgs(text):
    return re.findall(r"<svg.*?</svg>", text, flags=re.S)


class Html(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.report = made_up()
        cls.text = page_of(cls.report)
        cls.page = Page(cls.text)

    def test_the_page_loads_nothing_from_anywhere(self):
        outside = [r for r in self.page.references if not r.startswith("#")]
        self.assertEqual(outside, [])
        self.assertEqual(re.findall(r"url\((?!#)[^)]*\)|@import[^;]*;", self.text), [])
        self.assertFalse({"script", "link", "iframe", "img", "object"} & {t for t, _ in self.page.tags})

    def test_every_link_inside_the_page_has_its_target(self):
        wanted = {r[1:] for r in self.page.references} | set(re.findall(r"url\(#([^)]+)\)", self.text))
        self.assertGreater(len(wanted), 10)
        self.assertEqual(wanted - set(self.page.ids), set())

    def test_ids_are_unique_in_the_whole_page(self):
        twice = {i for i in self.page.ids if self.page.ids.count(i) > 1}
        self.assertEqual(twice, set())

    def test_every_element_is_closed_where_it_should_be(self):
        self.assertEqual((self.page.unbalanced, self.page.stack), ([], []))

    def test_every_figure_says_its_limits_and_how_to_repeat_it(self):
        figures = re.findall(r"<figure.*?</figure>", self.text, flags=re.S)
        self.assertEqual(len(figures), 4)  # three plots and the two data paths
        for f in figures:
            self.assertRegex(f, r'class="limits"><b>Limits</b> [^<]*R = ')
            self.assertRegex(f, r'<code class="command"[^>]*>\./run ab quick</code>')

    def test_every_picture_is_well_formed_and_has_a_name_for_screen_readers(self):
        found = svgs(self.text)
        self.assertEqual(len(found), 5)
        for s in found:
            root = ElementTree.fromstring(s)
            ids = {e.get("id") for e in root.iter()}
            self.assertEqual(root.get("role"), "img")
            self.assertTrue(root.get("aria-labelledby").split())
            self.assertLessEqual(set(root.get("aria-labelledby").split()), ids)

    def test_no_picture_has_a_colour_that_does_not_follow_the_theme(self):
        for s in svgs(self.text):
            self.assertEqual(plots.fixed_colours(s), [])
            for e in ElementTree.fromstring(s).iter("{http://www.w3.org/2000/svg}text"):
                self.assertIn("fill: var(--p-", e.get("style"))

    def test_both_themes_define_every_colour_that_is_used(self):
        used = set(re.findall(r"var\((--[\w-]+)", self.text)) - {"--w"}
        light, dark = (set(re.findall(r"(--p-[\w-]+):", b)) for b in plots.css_variables().split("@media", 1))
        self.assertEqual(light, dark)
        defined = light | set(re.findall(r"(--[\w-]+):", self.text.split("</style>")[0]))
        self.assertEqual(used - defined, set())

    def test_text_is_text_in_the_pages_font(self):
        for s in svgs(self.text):
            self.assertIn("<text", s)
            self.assertNotRegex(s, r"DejaVu|font: ")

    def test_ratios_stand_beside_their_absolute_values(self):
        for li in re.findall(r'<li class="verdict">.*?</li>', self.text, flags=re.S):
            if "×" in li:
                self.assertRegex(li, r'class="abs">2,500 ns copy')

    def test_the_first_screen_comes_before_everything_else_in_the_text(self):
        where = [self.text.index(x) for x in (self.report.headline, "1.50×", "Measured on", "The two data paths", "Targets",
                                              "What was found", 'id="ladder"')]
        self.assertEqual(where, sorted(where))

    def test_tables_tell_which_cells_are_heads(self):
        heads = [a for t, a in self.page.tags if t == "th"]
        self.assertTrue(heads)
        self.assertTrue(all(a.get("scope") in ("col", "row", "rowgroup") for a in heads))

    def test_a_long_table_is_folded_with_every_row_in_it(self):
        rows = [[f"point {i // 4}", str(i)] for i in range(40)]
        text = report_html.render(made_up(sections=[Section("s", "S", "lead", tables=[Table("Long", ["point", "n"], rows)])]))
        folded = re.search(r"<details>.*?</details>", text, flags=re.S).group(0)
        self.assertEqual(folded.count("<tr>"), 41)
        self.assertEqual(re.findall(r'rowspan="(\d+)"', folded), ["4"] * 10)
        self.assertEqual(re.findall(r'<td class="num">(\d+)</td>', folded), [str(i) for i in range(40)])

    def test_every_verdict_of_a_long_list_is_on_the_page(self):
        verdicts = [Verdict(f"claim {i}.", "faster", around(1.5), "1 ns, 2 ns") for i in range(30)]
        text = report_html.render(made_up(sections=[Section("s", "S", "lead", verdicts=verdicts)]))
        self.assertEqual([text.count(f"claim {i}.") for i in range(30)], [1] * 30)

    def test_a_time_is_not_shown_as_a_ratio(self):
        v = Verdict("p99", "faster", Interval(1280.0, 1136.0, 1442.0, 6), "copy 3,126 ns", unit="ns")
        for text in (page_of(made_up(sections=[Section("s", "S", "lead", verdicts=[v])])),
                     report_md.render(made_up(sections=[Section("s", "S", "lead", verdicts=[v])]))):
            self.assertIn("99 % interval 1.14 to 1.44 µs, n = 6", text)
            self.assertNotIn("1,280×", text)

    def test_a_number_is_not_parted_from_its_unit_but_commands_stay_as_they_are(self):
        text = report_html.render(made_up(headline="Reads of 4 KiB take 1.5 µs, 2 runs.", how_to_repeat=["./run ab 4 B"]))
        self.assertIn("Reads of 4\u00a0KiB take 1.5\u00a0µs, 2 runs.", text)
        self.assertIn(">./run ab 4 B<", text)

    def test_hostile_text_stays_text_wherever_it_stands(self):
        h = HOSTILE
        section = Section("s", h, h, [Figure("f", h, bars("f"), h, h, h)], [Table(h, [h], [[h]])],
                          [Verdict(h, h, around(1.0), h)], [h])
        hostile = made_up(
            title=h, when=h, headline=h, machine=h, limits_lines=[h], method=[h], environment={h: h}, sections=[section],
            how_to_repeat=[(h, h)], discarded=Table(h, [h], [[h]], h), headline_numbers=[report_model.Big(h, h, h, h, h)],
            targets=[dict.fromkeys(("name", "wanted", "measured", "interval", "answer", "absolute"), h)],
            experiments=[{"name": h}])
        page = Page(report_html.render(hostile))
        self.assertNotIn("script", {t for t, _ in page.tags})
        self.assertEqual((page.unbalanced, page.stack), ([], []))
        md = report_md.render(hostile)
        self.assertNotIn("<script", md.replace("`" + HOSTILE + "`", ""))

    def test_a_report_with_nothing_in_it_is_still_a_page(self):
        empty = report_model.Report(title="t", when="w", headline="h")
        page = Page(report_html.render(empty))
        self.assertEqual((page.unbalanced, page.stack), ([], []))
        wanted = {r[1:] for r in page.references}
        self.assertEqual(wanted - set(page.ids), set())
        self.assertIn("# t", report_md.render(empty))


class Rules(unittest.TestCase):
    def test_what_has_too_few_starts_for_an_interval_says_so_and_shows_no_nan(self):
        few = Interval(1.5, math.nan, math.nan, 2)
        self.assertEqual(report_model.interval_text(few), "too few for an interval, n = 2")
        self.assertEqual(disk_peers.ratio(few.data()), "1.50 (n = 2: too few for an interval)")
        self.assertEqual(disk_peers.ratio(Interval(1.5, 1.4, 1.6, 6).data()), "1.50 (1.40 to 1.60)")

    def test_a_report_that_keeps_the_rules_has_no_problems(self):
        self.assertEqual(report_model.problems(made_up()), [])

    def test_each_broken_rule_is_named(self):
        def broken(**kw):
            s = Section("s", "S", "lead", [figure("f", bars("f"))], [], [Verdict("c", "faster", around(1.5), "1 ns, 2 ns")])
            for k, v in kw.items():
                setattr(s.figures[0] if k in ("limits", "command", "svg") else s.verdicts[0] if k == "absolute" else s, k, v)
            return " ".join(report_model.problems(made_up(sections=[s])))
        self.assertIn("no limits line", broken(limits=" "))
        self.assertIn("no command", broken(command=""))
        self.assertIn("no absolute values", broken(absolute=""))
        self.assertIn("no lead", broken(lead=""))
        self.assertIn("does not follow the theme", broken(svg='<svg><text style="fill: #123456">x</text></svg>'))
        self.assertIn("is used 2 times", broken(id="f"))


class Markdown(unittest.TestCase):
    def test_it_says_what_the_page_says(self):
        report = made_up()
        md = report_md.render(report)
        for text in (report.headline, "1.50×", "2,500 ns copy, 1,700 ns zero-copy", "index.html#ladder-forward", "R = 281 ns",
                     "at most 2.5 R", "| in place | 1,700 | 0.68× |", "`./run ab full`", "descriptor table", "some CPU"):
            self.assertIn(text, md)

    def test_every_table_row_has_as_many_cells_as_its_head(self):
        for block in re.findall(r"(?:^\|.*\n)+", report_md.render(made_up()), flags=re.M):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}
            self.assertEqual(len(cells), 1, block)


class DataPath(unittest.TestCase):
    def test_the_steps_of_copy_add_up_to_the_formula_of_the_architecture(self):
        for bs, pages in ((512, 3), (4096, 3), (65536, 18), (1 << 20, 258)):
            t = datapath.totals("copy", bs, 256)
            self.assertEqual(t["rdma_bytes"], 26 * 256 + 12 + 16 + bs + 1)
            self.assertEqual(t["hcalls"], 3 + 1 + 2 + 3 + -(-bs // (128 << 10)) + 2)
            self.assertEqual(t["tce_updates"], 2 * pages)
        self.assertEqual(set(datapath.totals("zero-copy", 4096, 256).values()), {0})

    def test_counters_that_differ_from_the_steps_are_said(self):
        self.assertIn("equal the sum", datapath.caption(datapath.measure(context())))
        self.assertIn("hcalls 13 counted, the steps add up to 12", datapath.caption(datapath.measure(context(hcalls=13))))

    def test_no_picture_without_both_arms(self):
        ctx = context()
        ctx.samples = ctx.samples.where(arm="copy")
        self.assertEqual(datapath.measure(ctx), {})

    def test_the_whole_request_is_measured_and_the_data_step_a_difference_of_backends(self):
        text = dict((a, s) for a, _, s in datapath.panels(datapath.measure(context())))
        self.assertIn("2.5 µs a request", text["copy"])
        self.assertIn("1.7 µs a request", text["zero-copy"])
        self.assertIn("+ 400 ns", text["zero-copy"], "the guest's check of the bytes is charged to the server")
        self.assertIn("block by block: 400 ns [99 % interval 400 ns to 400 ns, n = 5]", datapath.caption(paths()))
        self.assertIn("700 ns with zero-copy", datapath.caption(paths()))

    def test_fitted_times_show_only_when_the_run_has_a_good_model_of_this_depth(self):
        def model(depth=1, error=0.1, low=40.0):
            prices = [{"kind": "work", "of": "hypercall", "metrics": ["hcalls"], "price": 50.0, "low": low, "high": 60.0},
                      {"kind": "lines", "of": "request", "metrics": [], "price": 1.1, "low": 1.0, "high": 1.2}]
            return Section("model", "M", "l", data={"regimes": [{"regime": cycles_model.regime_of(depth), "median_error": error,
                                                                 "prices": prices}]})

        def copy(*sections):
            return datapath.panels(datapath.measure(context(), sections))[0][2]
        self.assertIn("≈ 50 ns", copy(model()))
        self.assertIn("hcalls 50 ns [40 ns to 60 ns]", datapath.caption(datapath.measure(context(), [model()])))
        for why, sections in (("no model", ()), ("of another depth", (model(depth=32),)), ("a bad one", (model(error=0.16),)),
                              ("without an interval", (model(low=None),))):
            self.assertNotIn("≈", copy(*sections), why)


class Looks(unittest.TestCase):
    def test_each_named_arm_looks_the_same_everywhere_and_unlike_the_others(self):
        looks = [tuple(map(str, plots.style(a).values())) for a in ARMS]
        self.assertEqual(len({c for c, _, _ in looks}), len(ARMS))
        self.assertEqual(len({m for _, m, _ in looks}), len(ARMS))
        self.assertEqual(plots.style("copy (again)"), plots.style("copy"))

    def test_text_and_marks_are_readable_on_both_backgrounds(self):
        def luminance(h):
            c = [int(h[i:i + 2], 16) / 255 for i in (1, 3, 5)]
            c = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in c]
            return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]

        def contrast(a, b):
            hi, lo = sorted((luminance(a), luminance(b)), reverse=True)
            return (hi + 0.05) / (lo + 0.05)
        for theme in (0, 1):
            for token, value in plots.PALETTE.items():
                least = 4.5 if token in ("ink", "soft") else 3.0 if token.startswith(("arm-", "x")) else 0
                for ground in ("paper", "panel"):
                    if least:
                        self.assertGreaterEqual(contrast(value[theme], plots.PALETTE[ground][theme]), least, (token, theme))
        with open(os.path.join(report_html.ASSETS, "report.css"), encoding="utf-8") as f:
            css = f.read()
        for theme, part in enumerate(css.split("@media screen and (prefers-color-scheme: dark)")[:2]):
            for name in ("good", "bad", "open", "link"):
                value = re.search(rf"--{name}: (#[0-9a-f]{{6}})", part).group(1)
                self.assertGreaterEqual(contrast(value, plots.PALETTE["paper"][theme]), 4.5, (name, theme))

    def test_light_values_are_all_different_because_they_name_the_tokens(self):
        values = [light for light, _ in plots.PALETTE.values()]
        self.assertEqual(len(values), len(set(values)))

    def test_numbers_are_in_their_natural_units(self):
        self.assertEqual([plots.ns_text(v) for v in (0.5, 212, 999.9, 3400, 12e6, 1.2e9)],
                         ["0.5 ns", "212 ns", "1 µs", "3.4 µs", "12 ms", "1.2 s"])
        self.assertEqual([plots.bytes_text(v) for v in (0, 512, 4096, 3 << 19)], ["0 B", "512 B", "4 KiB", "1.5 MiB"])
        self.assertEqual([plots.count_text(v) for v in (950, 12e3, 999999, 3.4e6)], ["950", "12 k", "1 M", "3.4 M"])

    def test_numbers_only_columns_are_recognised(self):
        t = Table("t", ["a", "b", "c", "d"], [["1", "1,900 [1,880, 1,920]", "0.75×", "x 1"], ["2", "-", "12 ns", "2"]])
        self.assertEqual(report_html.numeric_columns(t), [False, True, True, False])

    def test_a_figure_saved_alone_carries_its_colours(self):
        alone = plots.standalone(plane("alone"))
        ElementTree.fromstring(alone)
        self.assertIn("prefers-color-scheme: dark", alone)


class Region(unittest.TestCase):
    def test_every_cell_of_the_plane_is_drawn_once(self):
        winner = np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]])
        e = plots._edges([0.0, 1.0, 2.0])
        area = 0.0
        for v in (-1, 0, 1):
            p = plots._cells(e, e, winner == v).vertices.reshape(-1, 5, 2)
            area += float(((p[:, 2, 0] - p[:, 0, 0]) * (p[:, 2, 1] - p[:, 0, 1])).sum())
        self.assertAlmostEqual(area, 4.0)
        self.assertIsNone(plots._cells(e, e, winner == 7))


if __name__ == "__main__":
    unittest.main()
