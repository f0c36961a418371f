# SPDX-License-Identifier: BSD-3-Clause
"""Where samples live: raw/NAME.jsonl, one line a trial, appended and synced as it ends, so that an interruption loses at
most the trial under way; and samples.csv, one row a sample, made from it."""

import csv
import dataclasses
import json
import os

from ab.instrument.model import METRICS, Point, Sample, Samples

SCHEMA = "virtio-vio-raw/1"
CSV_FRONT = ["experiment", "machine", "block", "phase", "position", "slot", "arm", "plateau"]
CSV_POINT = [f.name for f in dataclasses.fields(Point)]
CSV_BACK = ["kept", "why"]


class StoreError(Exception):
    """What is on disk does not fit what is asked; the text says what to do."""


def unused(path):
    """A name beside a file that nothing has yet: NAME.jsonl.1, .2, ..."""
    n = 1
    while os.path.exists(f"{path}.{n}"):
        n += 1
    return f"{path}.{n}"


def aside(path, windows):
    """An older run's file, and the folder of its windows, moved out of the way."""
    new = unused(path)
    os.replace(path, new)
    if os.path.isdir(windows):
        os.replace(windows, windows + new[len(path):])


class RawLog:
    """One experiment's trials. `fresh` moves an older file aside instead of going on with it."""

    def __init__(self, out, experiment, environment, cores, fresh=False, more=None):
        """more: further keys of the header."""
        self.path = os.path.join(out, "raw", experiment.name + ".jsonl")
        self.trials, self.events = [], []
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        if fresh and os.path.exists(self.path):
            aside(self.path, os.path.splitext(self.path)[0] + ".windows")
        self.header = {"schema": SCHEMA, "experiment": experiment.name, "digest": experiment.digest(), "seed": experiment.seed,
                       "environment": environment, "cores": cores} | (more or {})
        if os.path.exists(self.path):
            self._resume()
        self._file = open(self.path, "a")
        if not self.trials and self._file.tell() == 0:
            self._append({"header": self.header})

    def _resume(self):
        old, self.trials, self.events = read(self.path)
        for key, hint in (("digest", "the experiment file has changed"), ("cores", "other cores were chosen")):
            if old.get(key) != self.header[key]:
                raise StoreError(f"{self.path} was begun differently ({hint}); give --fresh to start again, or another --out")
        if old["environment"].get("commit") != self.header["environment"].get("commit"):
            raise StoreError(f"{self.path} was begun with commit {old['environment'].get('commit')}, this is "
                             f"{self.header['environment'].get('commit')}; give --fresh to start again, or another --out")
        self.header = old
        cut_partial_line(self.path)

    def _append(self, obj):
        self._file.write(json.dumps(obj, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def add_trial(self, trial):
        self.trials.append(trial)
        self._append({"trial": trial})

    def add_block(self, trials, events):
        """A block's trials and what is to be known of them: one line, so that all of it is there or nothing."""
        self.trials += trials
        self.events += events
        self._append({"trials": trials, "events": events})

    def add_event(self, event):
        """What a resumed run must know: the pilot's decision, limits, seconds spent."""
        self.events.append(event)
        self._append({"event": event})

    def event(self, kind):
        return next((e for e in self.events if e["kind"] == kind), None)

    def close(self):
        self._file.close()


def cut_partial_line(path):
    """A run that was killed while writing leaves half a line; it goes, so that the next one starts on its own."""
    with open(path, "rb+") as f:
        data = f.read()
        f.truncate(data.rfind(b"\n") + 1)


def lines(path):
    """Whole lines of a raw file; a last one without its end, of a run that was killed while writing, is left out."""
    try:
        with open(path) as f:
            return [line for line in f if line.endswith("\n")]
    except UnicodeDecodeError:
        raise StoreError(f"{path}: this is not a text file; move it away and measure again") from None


def read(path):
    """(header, trials, events) of one raw file. A broken last line is left out."""
    header, trials, events = {}, [], []
    for number, line in enumerate(lines(path), 1):
        try:
            obj = json.loads(line)
        except ValueError:
            raise StoreError(f"{path}: line {number} is damaged; mend it, or move the file away and measure again") from None
        if "header" in obj:
            header = obj["header"]
        elif "trial" in obj:
            trials.append(obj["trial"])
        elif "trials" in obj:
            trials += obj["trials"]
            events += obj["events"]
        else:
            events.append(obj["event"])
    if not header:
        raise StoreError(f"{path}: it has no header, as if its beginning was cut off; move the file away and measure again")
    if header.get("schema") != SCHEMA:
        raise StoreError(f"{path}: schema {header.get('schema')!r}, this program reads {SCHEMA}")
    return header, trials, events


def to_samples(trials, machine=""):
    out = []
    for t in trials:
        for s in t["samples"]:
            out.append(Sample(experiment=t["experiment"], block=t["block"], phase=t["phase"], position=t["position"],
                              slot=s.get("slot", t["slot"]), arm=s.get("arm", t["arm"]), point=Point(**s["point"]),
                              values=s["values"], kept=s["kept"], why=s["why"], machine=machine,
                              histogram=s.get("histogram", [])))
    return Samples(out)


def write_csv(samples, path):
    metrics = list(METRICS)
    with open(path, "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(CSV_FRONT + CSV_POINT + CSV_BACK + metrics)
        for s in samples:
            w.writerow([getattr(s, k) for k in CSV_FRONT] + [getattr(s.point, k) for k in CSV_POINT] +
                       [int(s.kept), s.why] + [repr(s.values[m]) if m in s.values else "" for m in metrics])


def read_csv(path, machine=""):
    """Samples of a samples.csv; histograms are in raw/ only."""
    kinds = {f.name: type(f.default) for f in dataclasses.fields(Point)}

    def value(kind, text):
        return text == "True" if kind is bool else kind(text)
    out = []
    with open(path, newline="") as f:
        for row in csv.DictReader(f):
            point = Point(**{k: value(kinds[k], row[k]) for k in CSV_POINT if row.get(k) is not None})
            values = {m: float(row[m]) for m in METRICS if row.get(m)}
            out.append(Sample(experiment=row["experiment"], block=int(row["block"]), phase=row["phase"],
                              position=int(row["position"]), slot=row["slot"], arm=row["arm"], point=point, values=values,
                              plateau=int(row["plateau"]), kept=row["kept"] == "1", why=row["why"], machine=machine or row["machine"]))
    return Samples(out)
