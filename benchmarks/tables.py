"""The README's tables, made from `benchmarks/results/`, so that no figure is typed by hand.

python -m benchmarks.tables [--write]
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsco.case import SYSTEMS
from gsco.evaluation.stored import BASELINE

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def tables() -> str:
    """Return all tables as Markdown."""
    parts = [specialists(_read("specialists")), systems(_read("systems")), suite()]
    parts += [domains(), arbitration()]
    return "\n\n".join([*parts, speed(), serving(), harness(), scale(), chat(), load()])


def _read(kind: str) -> dict[str, Any]:
    files = sorted(RESULTS.glob(f"{kind}-*.json"))
    return {f.stem.removeprefix(f"{kind}-"): json.loads(f.read_text()) for f in files}


def specialists(found: dict[str, Any]) -> str:
    """Return the best specialist of each set beside a plain fine-tune of the same backbone."""
    head = [
        "**The specialist that was best on validation, on test cases** (mean over seeds, 95 % "
        "bootstrap interval over cases). Beside it: EfficientNet-Lite0 fine-tuned by the published "
        "recipe.",
        "",
        "| set | n | seeds | AUC | accuracy | balanced | plain AUC | plain balanced |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(head + [_specialist(name, one) for name, one in found.items()])


def _specialist(name: str, one: dict[str, Any]) -> str:
    ours, plain = one["ours"], one["plain_timm"]
    cells = [name, str(one["n_test"]), str(len(one["seeds"]))]
    cells += [_with(ours, metric) for metric in ("auc", "accuracy", "balanced_accuracy")]
    cells += [_with(plain, m) if plain else "" for m in ("auc", "balanced_accuracy")]
    return f"| {' | '.join(cells)} |"


def _with(one: dict[str, Any], metric: str) -> str:
    low, high = one["interval"][metric]
    return f"{_short(one['mean'][metric])} ({_short(low, 2)}–{_short(high, 2)})"


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def systems(found: dict[str, Any]) -> str:
    """Return every system's balanced accuracy on every set, and the mean gain over `specialist`."""
    names = list(found)
    rows = {
        system: [next((r for r in found[n]["rows"] if r["system"] == system), None) for n in names]
        for system in SYSTEMS
    }
    # Means are over the sets on which every system was measured.
    whole = [i for i in range(len(names)) if all(row[i] for row in rows.values())]
    counts = [f"{n} ({found[n]['rows'][0]['n']})" for n in names]
    head = [
        "**Every system on the same test cases**: balanced accuracy in %, one seed. ▼ "
        "significantly below `specialist`, ▲ above. Where gsco-tiny learnt from images of the same "
        "source it is not asked (–); means are over the other sets. Gain: mean difference to "
        "`specialist` over all sets on which a system was measured, with a 95 % interval from the "
        "paired intervals of the sets.",
        "",
        f"| system | {' | '.join(counts)} | mean | gain |",
        f"|---|{'---|' * (len(names) + 2)}",
    ]
    return "\n".join(head + [_system(system, row, whole) for system, row in rows.items()])


def _system(system: str, rows: Sequence[dict[str, Any] | None], whole: Sequence[int]) -> str:
    cells = [
        f"{100 * row['balanced_accuracy']:.1f}{_sign(row['balanced_accuracy_gain_interval'])}"
        if row
        else "–"
        for row in rows
    ]
    counted = [row for i in whole if (row := rows[i])]
    mean = sum(row["balanced_accuracy"] for row in counted) / len(counted)
    gain = _gain([row for row in rows if row])
    return f"| `{system}` | {' | '.join(cells)} | {100 * mean:.1f} | {gain} |"


def _sign(interval: Sequence[float] | None) -> str:
    """Return a mark if an interval of a difference lies on one side of nothing."""
    low, high = interval or (0, 0)
    return "▲" if low > 0 else "▼" if high < 0 else ""


def _gain(rows: Sequence[dict[str, Any]]) -> str:
    """Return the mean gain; sets are independent, so their variances add."""
    if any(row["balanced_accuracy_gain"] is None for row in rows):
        return ""
    mean = sum(row["balanced_accuracy_gain"] for row in rows) / len(rows)
    widths = [high - low for low, high in (r["balanced_accuracy_gain_interval"] for r in rows)]
    half = math.sqrt(sum((width / 2) ** 2 for width in widths)) / len(rows)
    return _difference(mean, mean - half, mean + half)


def _difference(middle: float, low: float, high: float) -> str:
    return f"{100 * middle:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


KINDS = {
    "kept": "right alone, all specialists made to say one wrong label: still right",
    "corrected": "wrong alone, their vote right: put right by their opinions",
    "misled": "right alone, their vote wrong: put wrong by their opinions",
    "against_all": "all specialists made to say one wrong label: right, of all cases",
}


def suite() -> str:
    """Return all systems on all sets at hand, over the seeds that constructed them."""
    found = json.loads((RESULTS / "suite-local.json").read_text())
    rows = {(row["set"], row["system"]): row for row in found["averaged"]}
    names = found["sets"]
    head = [
        f"**The whole benchmark**, everything constructed with {len(found['seeds'])} seeds, the "
        f"first one's starter tasks as they ship ({found['generalist']}, {found['n']:,} cases): "
        "balanced accuracy, %, mean over seeds; ▼ significantly below `specialist`, ▲ above. "
        "Last columns: mean over sets, that of each seed, and the gain over `specialist` and over "
        "`stack` with a 95 % interval over patients.",
        "",
        f"| system | {' | '.join(names)} | mean | each seed | gain | over `stack` |",
        f"|---|{'---|' * (len(names) + 4)}",
    ]
    lines = []
    for system in SYSTEMS:
        mean = rows["mean", system]
        every = [rows[name, system] for name in names]
        cells = [f"{100 * r['balanced_accuracy']:.1f}{_sign(r['gain_interval'])}" for r in every]
        cells += [f"{100 * mean['balanced_accuracy']:.1f}"]
        cells += [", ".join(f"{100 * one:.1f}" for one in mean["each"])]
        for gain, other in (("gain", BASELINE), ("over_stack", "stack")):
            told = _difference(mean[gain], *mean[f"{gain}_interval"])
            cells += [told if system != other else ""]
        lines.append(f"| `{system}` | {' | '.join(cells)} |")
    return "\n".join(head + lines)


def domains() -> str:
    """Return what systems are worth on images of another place, with either index."""
    found = _read("domains")
    titles = [f"{one['move']} ({one['n']})" for one in found.values()]
    head = [
        "**Across domains**: learnt in one place, asked about another; balanced accuracy in % with "
        "a 95 % interval (dermoscopy: AUC of melanoma), with the index of the source and, after "
        "the arrow, of the target's own labelled cases. Nothing else is fitted anew.",
        "",
        f"| system | {' | '.join(titles)} |",
        f"|---|{'---|' * len(found)}",
    ]
    lines = []
    for system in SYSTEMS:
        cells = [_moved(one["rows"], system) for one in found.values()]
        lines.append(f"| `{system}` | {' | '.join(cells)} |")
    return "\n".join(head + lines)


def _moved(rows: dict[str, list[dict[str, Any]]], system: str) -> str:
    said = []
    for found in rows.values():
        one = next((row for row in found if row["system"] == system), None)
        if one is None:
            return "–"
        name = "balanced_accuracy" if "balanced_accuracy" in one else "auc"
        low, high = one[f"{name}_interval"]
        said.append(f"{one[name] * 100:.1f} ({low * 100:.0f}–{high * 100:.0f})")
    return " → ".join(said) if len(set(said)) > 1 else said[0]


def arbitration() -> str:
    """Return whom the generalist believed."""
    found = json.loads((RESULTS / "arbitration.json").read_text())
    tasks = found["tasks"]
    head = [
        f"**Arbitration**: {found['generalist']} with the specialists' opinions in the prompt "
        "(`moed`), starter tasks, test cases; in % with a 95 % interval. Beside it what the "
        "publication reports of its generalist, each on one set of its own.",
        "",
        f"| when | {' | '.join(tasks)} | publication |",
        f"|---|{'---|' * (len(tasks) + 1)}",
    ]
    rows = []
    for kind, words in KINDS.items():
        cells = [_share(one[kind]) for one in tasks.values()]
        published = found["published"].get(kind)
        beside = f"{100 * published:.1f}" if published else ""
        rows.append(f"| {words} | {' | '.join(cells)} | {beside} |")
    return "\n".join(head + rows)


def _share(one: dict[str, Any]) -> str:
    if one["share"] is None:
        return "no case"
    low, high = (100 * bound for bound in one["interval"])
    return f"{100 * one['share']:.0f} ({low:.0f}–{high:.0f}; n {one['n']})"


def serving() -> str:
    """Return the ratios of the served path."""
    found = json.loads((RESULTS / "serving.json").read_text())
    speed, cached = found["throughput"]["ratios"], found["prefix_cache"]
    agreeing = found["embedded_and_served"].values()
    lines = [
        (
            "batch path (two option orders), against the published way (one by one, 20 tokens)",
            _ratio(speed["published_to_ours"]),
        ),
        (
            "the same with one option order, as the published way asks",
            _ratio(speed["published_to_ours_1"]),
        ),
        (
            "batch path (two orders), where the published way may end before 20 tokens",
            _ratio(speed["published_short_to_ours"]),
        ),
        ("batch path, of a bare asynchronous loop", _ratio(speed["bare_to_ours"])),
        (
            "the same where labels begin alike and the server is asked again (dermoscopy)",
            _ratio(found["begin_alike"]["ratios"]["bare_to_ours"]),
        ),
        *(
            (
                f"`{system}`: text tokens found in the prefix cache",
                f"{one['hits_of_text_tokens']:.2f}",
            )
            for system, one in cached.items()
        ),
        (
            "largest difference of a probability, in process and served",
            f"{max(one['largest_difference'] for one in agreeing):.2g}",
        ),
    ]
    head = [
        f"**Serving** ({found['server']}; geometric mean over {found['throughput']['rounds']} "
        f"rounds of {found['throughput']['cases_a_round']} cases with a 95 % interval; "
        f"{sum(one['n'] for one in agreeing)} cases of {len(agreeing)} tasks for the difference).",
        "",
        "| what | ratio |",
        "|---|---|",
    ]
    return "\n".join([*head, *(f"| {what} | {ratio} |" for what, ratio in lines)])


def harness() -> str:
    """Return how fast questions are asked beside lmms-eval, and how many are right."""
    found = json.loads((RESULTS / "harness.json").read_text())
    requests, best = found["requests"], found["best"].replace("openai,", "openai, ")
    titles = {
        "harness": "lmms-eval as it is",
        "harness_best": f"lmms-eval, quickest setting tried (`{best}`)",
        "written": "GSCo, the same requests: free text",
        "read": "GSCo, the same prompts as it reads them: one of the options",
        "run": "`gsco bench run`, two orders of the options",
    }
    head = [
        f"**Beside lmms-eval** {found['harness_versions']['lmms-eval']} ({found['server']}; "
        f"{found['n']} test questions of VQA-RAD, {found['rounds']} rounds, at most "
        f"{found['tokens_at_most']} tokens; {requests['equal']} of {requests['sent']} requests "
        "show the model the same text and pixels). Cases a second: median over rounds; ratio: "
        "geometric mean with a 95 % interval over rounds, of the time of asking alone, but for the "
        "last line of whole commands. A question without options, which GSCo does not put to "
        "gsco-tiny in its last two lines, is no case there and counts as wrong.",
        "",
        "| who | asking, a second | of lmms-eval as it is (goal 2) | of its quickest | "
        "whole command, a second | closed questions right, % |",
        "|---|---|---|---|---|---|",
    ]
    lines = []
    for arm, title in titles.items():
        asking = found["cases_a_second_while_asking"].get(arm)
        whole = found["cases_a_second_of_the_command"].get(arm)
        kind = "_whole_commands" if arm == "run" else ""
        cells = [title, _median(asking)]
        for other in ("harness", "harness_best"):
            cells.append(_ratio(found["ratios"].get(f"{arm}_to_{other}{kind}")))
        cells += [_median(whole), _right(found["accuracy"][arm]["closed_accuracy"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*head, *lines])


def _median(values: Sequence[float] | None) -> str:
    return f"{statistics.median(values):.1f}" if values else ""


def _ratio(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    low, high = one["interval"]
    return f"{one['ratio']:.2f} ({low:.2f}–{high:.2f})"


def _right(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f"{100 * one['value']:.1f} ({100 * low:.0f}–{100 * high:.0f})"


def speed() -> str:
    """Return the ratios of the speed suite."""
    found = json.loads((RESULTS / "speed.json").read_text())
    retrieval, batches = found["retrieval"], found["many_against_one_by_one"]
    bare = (one["to_ours"] for one in found["batched_prediction_against_timm"].values())
    slowest = min(bare, key=lambda one: one["ratio"])
    lines = [
        ("specialists' batched prediction, of a bare timm loop (slowest of them)", slowest),
        (
            f"retrieval of {retrieval['queries']} queries at once, of raw FAISS",
            retrieval["ratio_to_faiss"],
        ),
        ("retrieval one query at a time, of raw FAISS", retrieval["ratio_to_faiss_one_by_one"]),
        (
            f"the same among {retrieval['large']['indexed']:,} cases",
            retrieval["large"]["ratio_to_faiss_one_by_one"],
        ),
        (
            "retrieval at once, against the published brute force over maps of ResNet-18 (goal 50)",
            retrieval["ratio_to_published"],
        ),
        *(
            (f"the same over maps as long as those of {name}", one["ratio_to_published"])
            for name, one in retrieval["longer_maps"].items()
        ),
        (
            "retrieval one by one, against the published brute force",
            retrieval["ratio_to_published_one_by_one"],
        ),
        (
            f"`diagnose_many` of {found['n']} cases, against `diagnose` one by one",
            batches["to_many"],
        ),
    ]
    rows = [f"| {what} | {_ratio(ratio)} |" for what, ratio in lines]
    beyond = f"| what the workflow adds to a case (median) | {found['overhead_ms_a_case']:.1f} ms |"
    head = [
        "**Speed**, ratios measured side by side in one run: geometric means over its rounds, with "
        "95 % intervals.",
        "",
        "| what | ratio |",
        "|---|---|",
    ]
    return "\n".join([*head, *rows, beyond])


def scale() -> str:
    """Return how the benchmark's runner fares with many cases, beside the goals."""
    found = json.loads((RESULTS / "scale.json").read_text())
    goals, (few, many) = found["goals"], found["runs"]
    rows = [
        (
            "peak memory, MiB",
            *(f"{one['peak_mib']:.0f}" for one in (few, many)),
            f"{found['memory_ratio']:.2f}",
            f"at most {goals['memory_ratio_at_most']}",
        ),
        ("memory of a further case, KiB", "", f"{found['kib_a_further_case']:.1f}", "", ""),
        (
            "cases a second, figures and report included",
            *(f"{one['cases_a_second']:.0f}" for one in (few, many)),
            f"{found['throughput_ratio']:.2f}",
            f"at least {goals['throughput_ratio_at_least']}",
        ),
        (
            "the same, only while asking",
            *(f"{one['cases_a_second_while_asking']:.0f}" for one in (few, many)),
            f"{found['throughput_ratio_while_asking']:.2f}",
            f"at least {goals['throughput_ratio_at_least']}",
        ),
        (
            "killed at half: seconds from the new start to its first answer",
            *(f"{one['resume_seconds']:.1f}" for one in (few, many)),
            "",
            f"below {goals['resume_seconds_below']}",
        ),
    ]
    head = [
        f"**Scale**: made-up cases through `gsco bench run`'s own runner (`{found['system']}`, a "
        "scripted generalist, no trained model), each run in a process of its own.",
        "",
        f"| what | {few['n']:,} cases | {many['n']:,} cases | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def chat() -> str:
    """Return how long a person waits for the page."""
    found = json.loads((RESULTS / "chat.json").read_text())
    told = {
        "seconds_to_type": "page opened: until a person can type",
        "seconds_to_answer": "sample taken: until the answer stands there",
        "seconds_to_all_evidence": "until all evidence does, what would change the answer included",
    }
    goals = {"seconds_to_type": 2, "seconds_to_all_evidence": 3}
    head = [
        f"**The chat** in a real browser, {found['generalist']} in process, {found['n']} cases.",
        "",
        "| what | median, s | range | goal |",
        "|---|---|---|---|",
    ]
    for name, what in told.items():
        each = found[name]["all"]
        goal = f"below {goals[name]}" if name in goals else ""
        span = f"{min(each):.1f}–{max(each):.1f}"
        head.append(f"| {what} | {found[name]['median']:.1f} | {span} | {goal} |")
    return "\n".join(head)


def load() -> str:
    """Return what many users at once do to the HTTP service."""
    files = [RESULTS / "load.json", RESULTS / "load-served.json"]
    found = [json.loads(file.read_text()) for file in files if file.is_file()]
    titles = [", ".join(f"`{system}`" for system in one["systems"]) for one in found]
    head = [
        f"**The HTTP service** under {found[0]['users']} users at once for "
        f"{found[0]['seconds'] / 60:.0f} minutes, broken images among theirs; systems that ask the "
        "generalist (gsco-tiny behind vLLM on the same two cores) in a run of their own.",
        "",
        f"| what | {' | '.join(titles)} |",
        f"|---|{'---|' * len(found)}",
    ]
    told = {
        "answers": lambda one: f"{one['n']:,}",
        "answers that differ from the one got alone": lambda one: str(one["differing"]),
        "errors": lambda one: str(one["failures"]),
        "seconds to an answer: median, 95 % of them": lambda one: (
            f"{one['wait_seconds']['median']:.1f}, {one['wait_seconds']['p95']:.1f}"
        ),
        "memory after warm-up and at the end, MiB": lambda one: (
            f"{one['resident_mib']['warm']:.0f}, {one['resident_mib']['end']:.0f}"
        ),
    }
    lines = [f"| {what} | {' | '.join(map(tell, found))} |" for what, tell in told.items()]
    return "\n".join(head + lines)


def filled(text: str) -> str:
    """Return the README's text with the tables between their marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Print the tables, or put them into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into README.md")
    if parser.parse_args().write:
        readme = ROOT / "README.md"
        readme.write_text(filled(readme.read_text()))
    else:
        print(tables())


if __name__ == "__main__":
    main()
