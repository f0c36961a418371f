# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance fuzz and models: the fuzzers and the Spin models, which have commands of their own, counted for the table."""

import importlib.util
import os
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], os.path.join(ROOT, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fuzz(minutes, say=lambda text: None):
    run = load("tests/fuzz/run.py")
    run.build(run.NAMES)
    seconds, targets, found = max(1, round(60 * minutes / len(run.NAMES))), {}, []
    for name in run.NAMES:
        n, kept, text = run.fuzz(name, seconds)
        targets[name] = {"executions": n, "inputs": kept}
        say(f"{name}: {n} executions in {seconds} s, {'a finding' if text else 'nothing found'}")
        found += [f"{name}: {text[-600:]}"] if text else []
    return {"executions": sum(t["executions"] for t in targets.values()), "targets": targets, "minutes": minutes,
            "losses": len(found), "first_losses": found[:3]}


def models(long_too, say=lambda text: None):
    """Every size of every model; states that were searched, and rules left out that an error was found for."""
    module = load("tests/system/test_model.py")
    found, states, broken, sizes = [], {}, 0, 0
    for name, short, longer in (module.WINDOWS, module.DUET):
        with tempfile.TemporaryDirectory(prefix="vio-model-") as d:
            model, states[name] = module.Model(d, name), 0
            for macros in short + (longer if long_too else []):
                errors, n = model.search(*macros)
                say(f"{name} {' '.join(macros)}: {n} states, {errors} errors")
                states[name] += n
                sizes += 1
                found += [f"{name} {' '.join(macros)}"] if errors else []
            for rule in sorted(set(module.re.findall(r"\bBREAK_[A-Z]+\b", model.text)) - {"BREAK_"}):
                errors, _ = model.search("-D" + rule)
                broken += errors != 0
                found += [] if errors else [f"{name} without {rule}: no error"]
    return {"states": sum(states.values()), "by_model": states, "searches": sizes, "rules_left_out": broken, "losses": len(found), "first_losses": found[:3]}
