"""Template mining on labelled logs: how right, how fast, and drain3 beside it.

usage: python bench/bench_logs_templates.py [DIRECTORY ...] [--errors]

A DIRECTORY holds sets like those of loghub (https://github.com/logpai/loghub): ``NAME/NAME_2k.log``
with its ``_structured.csv``. Without one, only the imitations of
`log_imitations.py` and `log_held_out.py` are run. Both miners have their defaults, the same for
every set.

- GA, grouping accuracy: the share of lines whose group is exactly the group of the labels.
- PA, parsing accuracy: the share of lines whose template is that of the labels. "strict" takes
  blanks together and joins holes side by side; "PA" also joins holes with one of ``.:/,#@_-`` or a
  blank between them, on both sides.
- "stream" adds line by line and asks for the groups in the end; "at once" takes the id of each line
  as it was when it was added.
- "/s" are lines per second of the processor, from nothing known: what is learned is part of it.
- "raw" reads whole lines: the header is found by the miner. Those held out have no headers.
"""

import argparse
import csv
import logging
import re
import statistics
import time
from collections import defaultdict
from pathlib import Path

from drain3 import TemplateMiner as Drain3
from drain3.template_miner_config import TemplateMinerConfig
from log_held_out import HELD_OUT
from log_imitations import SYSTEMS, imitate, with_headers

from hastack.observe.logs.templates import TemplateMiner

REPEATS = 10
_SIDE_BY_SIDE = re.compile(r"<\*>(?:<\*>)+")
_NEARLY = re.compile(r"<\*>(?:[.:/,#@_ -]?<\*>)+")


def labelled(directory):
    """Name, messages, templates, whole lines."""
    for path in sorted(Path(directory).glob("*/*.log_structured.csv")):
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        raw = path.with_name(path.name.removesuffix("_structured.csv"))
        whole = [line for line in raw.read_text("utf-8", "replace").split("\n") if line.strip()]
        messages = [row["Content"] for row in rows]
        yield path.parent.name, messages, [row["EventTemplate"] for row in rows], whole


def imitated():
    for name in SYSTEMS:
        made = imitate(name, 2000)
        messages, labels = zip(*made, strict=True)
        yield f"~{name}", list(messages), list(labels), with_headers(name, made)


def held_out():
    for name in HELD_OUT:
        messages, labels = zip(*imitate(name, 2000, systems=HELD_OUT), strict=True)
        yield f"~{name}", list(messages), list(labels), list(messages)


def grouping_accuracy(groups, labels):
    ours, theirs = defaultdict(set), defaultdict(set)
    for i, (group, label) in enumerate(zip(groups, labels, strict=True)):
        ours[group].add(i)
        theirs[label].add(i)
    right = sum(len(lines) for lines in theirs.values() if ours[groups[min(lines)]] == lines)
    return right / len(labels)


def plain(template, holes):
    return holes.sub("<*>", " ".join(template.split()))


def parsing_accuracy(texts, labels, holes):
    pairs = zip(texts, labels, strict=True)
    return sum(plain(a, holes) == plain(b, holes) for a, b in pairs) / len(labels)


def rate(run, lines):
    start = time.process_time()
    run(lines)
    return len(lines) / (time.process_time() - start)


def drain3(lines):
    miner = Drain3(config=TemplateMinerConfig())
    ids = [miner.add_log_message(line)["cluster_id"] for line in lines]
    return ids, [miner.drain.id_to_cluster[number].get_template() for number in ids]


def add_all(lines):
    miner = TemplateMiner(header=None)
    return [miner.add(line) for line in lines]


def measure(messages, labels, whole):
    miner = TemplateMiner(header=None).fit(messages)
    found = [miner.match(line) for line in messages]
    texts = [match.text for match in found]
    out = {"GA": grouping_accuracy([match.template_id for match in found], labels)}
    stream = TemplateMiner(header=None)
    at_once = [stream.add(line).template_id for line in messages]
    out["GA stream"] = grouping_accuracy([stream.resolve(number) for number in at_once], labels)
    out["GA at once"] = grouping_accuracy(at_once, labels)
    reader = TemplateMiner().fit(whole)
    out["GA raw"] = grouping_accuracy([reader.match(line).template_id for line in whole], labels)
    out["PA strict"] = parsing_accuracy(texts, labels, _SIDE_BY_SIDE)
    out["PA"] = parsing_accuracy(texts, labels, _NEARLY)
    ids, theirs = drain3(messages)
    out["drain3 GA"] = grouping_accuracy(ids, labels)
    out["drain3 PA"] = parsing_accuracy(theirs, labels, _NEARLY)
    many = messages * REPEATS
    out["fit/s"] = rate(TemplateMiner(header=None).fit, many)
    out["add/s"] = rate(add_all, many)
    out["match/s"] = rate(lambda lines: [miner.match(line) for line in lines], many)
    out["drain3/s"] = rate(drain3, many)
    return out, texts


def show(name, row):
    cells = (f"{v:,.0f}" if key.endswith("/s") else f"{v:.3f}" for key, v in row.items())
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def errors(texts, labels):
    """Which labels are not one template of ours, or are with others in one."""
    pairs = defaultdict(int)
    for text, label in zip(texts, labels, strict=True):
        pairs[text, label] += 1
    for (text, label), count in sorted(pairs.items(), key=lambda item: -item[1]):
        split = sum(b == label for _, b in pairs) > 1
        mixed = sum(a == text for a, _ in pairs) > 1
        if split or mixed:
            print(f"    {count:5} {'split' if split else ''} {'mixed' if mixed else ''}")
            print(f"          ours  {text[:180]}\n          label {label[:180]}")


def run(title, sets, *, with_errors):
    print(f"\n### {title}\n")
    rows = []
    for name, messages, labels, whole in sets:
        row, texts = measure(messages, labels, whole)
        if not rows:
            print(f"| | {' | '.join(row)} |\n|---|{'---:|' * len(row)}")
        rows.append(row)
        show(name, row)
        if with_errors:
            errors(texts, labels)
    if rows:
        show("mean", {key: statistics.fmean(row[key] for row in rows) for key in rows[0]})


def main():
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="*")
    parser.add_argument("--errors", action="store_true", help="show what was grouped otherwise")
    options = parser.parse_args()
    for directory in options.directory:
        run(f"Labelled: {Path(directory).name}", labelled(directory), with_errors=options.errors)
    run("Imitated", imitated(), with_errors=options.errors)
    run("Imitated, held out", held_out(), with_errors=options.errors)


if __name__ == "__main__":
    main()
