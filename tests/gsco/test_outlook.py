"""The outlook of a run: time left, what the generalist was asked, and in which order."""

from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import pytest
from fake_server import serving
from rich.console import Console
from rich.live import Live

from gsco import show
from gsco.agent import GSCo
from gsco.case import SYSTEMS
from gsco.datasets import Dataset
from gsco.evaluation import bench
from gsco.evaluation.bench import Item, Portion, cheap_first, run
from gsco.evaluation.engine import Done, one_by_one
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.outlook import Outlook, spelt
from gsco.evaluation.page import write
from gsco.evaluation.stored import RESULTS
from gsco.generalist.served import connect
from gsco.settings import Settings


def answers(count: int, seconds: float, tokens: float | None = None) -> list[Answer]:
    return [Answer(str(n), "a", [1.0], None, False, [], seconds, tokens) for n in range(count)]


def outlook(left: dict[str, int]) -> Outlook:
    return Outlook(left, ("gsco", "rad"), lambda sentence: None)


def test_time_and_tokens_left_follow_from_what_a_case_took() -> None:
    found = outlook({"stack": 10, "rad": 100, "gsco": 100})
    found.note("stack", answers(10, 0.1))
    assert found.sentence(1.0) == (
        "The time left is known once the generalist has begun; "
        "the generalist has read 0 of 200 cases."
    )
    # 9 s for 10 cases, and 190 are left; nobody knows how long those of gsco take.
    found.note("rad", answers(10, 0.9, 100.0))
    assert found.sentence(10.0) == (
        "About 3 min left; the generalist has read 10 of 200 cases; 1,000 of about 20,000 tokens."
    )
    # Four workers need a fourth of the time.
    assert found.sentence(2.5).startswith("About 43 s left")
    found.note("rad", answers(90, 0.9, 100.0))
    found.note("gsco", answers(100, 0.9, 200.0))
    assert found.sentence(200.0) == (
        "Done in 3 min; the generalist has read 200 of 200 cases; 30,000 of about 30,000 tokens."
    )


def test_of_systems_without_generalist_only_the_time_is_told() -> None:
    found = outlook({"stack": 10, "vote": 10})
    found.note("stack", answers(5, 0.2))
    assert found.sentence(1.0) == "About 3 s left."


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (9000, "2.5 h")]
)
def test_times_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert spelt(seconds) == text


def test_systems_without_generalist_come_first() -> None:
    assert cheap_first(SYSTEMS) == [
        "specialist", "vote", "mean", "stack", "neighbours",
        "generalist", "moed", "rad", "gsco", "gsco-fused",
    ]  # fmt: skip


def test_each_system_is_asked_in_one_go_and_the_order_changes_no_result(
    agent: GSCo, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CHUNK", 8)
    asked: list[str] = []

    def noted(agent: GSCo, works: Sequence[Portion]) -> Iterator[Done]:
        asked.extend(work.system for work in works)
        return one_by_one(agent, works)

    items, said = [Item("spots", "spots", dataset)], []
    run(agent, items, ("gsco", "stack"), tmp_path / "a", engine=noted, say=said.append)
    assert asked == ["stack"] * 3 + ["gsco"] * 3
    assert len(said) == 6
    assert said[0].endswith("the generalist has read 0 of 20 cases.")
    assert said[-1].startswith("Done in ")
    assert "20 of 20 cases" in said[-1]
    assert "tokens" not in said[-1]
    for system in ("gsco", "stack"):
        run(agent, items, (system,), tmp_path / "b")
    assert (tmp_path / "a" / RESULTS).read_bytes() == (tmp_path / "b" / RESULTS).read_bytes()


def test_what_a_server_counts_is_told_and_stored(
    workspace: Path, dataset: Dataset, tmp_path: Path
) -> None:
    said: list[str] = []
    with (
        serving(lambda body: {choice: 0.5 for choice in ("A", "B")}) as server,
        connect([server.url]) as generalist,
    ):
        agent = GSCo.open(workspace, generalist=generalist, settings=Settings())
        items = [Item("spots", "spots", dataset)]
        rows = run(agent, items, ["stack", "rad"], tmp_path / "out", say=said.append)
    # 20 cases in two orders of 32 tokens each.
    assert "20 of 20 cases; 1,280 of about 1,280 tokens" in said[-1]
    (path,) = (tmp_path / "out" / "spots").glob("rad.*.jsonl")
    assert {answer.tokens for answer in Ledger.at(path).lines()} == {64.0}
    page = write(tmp_path / "out", rows or []).read_text()
    assert "Tokens of the generalist a case: rad 64." in page


def test_the_sentence_stands_above_the_bars() -> None:
    screen, bars = Console(file=StringIO(), width=80), show.Bars()
    with Live(bars.shown, console=screen):
        bars("spots gsco", 1, 20)
        bars.say("About [3] s left.")
        bars.say("About [2] s left.")
    line, bar = screen.file.getvalue().strip().splitlines()  # type: ignore[attr-defined]
    assert "spots gsco" in bar
    assert "1/20" in bar
    assert line.strip() == "About [2] s left."


def test_of_many_bars_those_that_are_full_make_room() -> None:
    screen, bars = Console(file=StringIO(), width=80, height=100), show.Bars()
    with Live(bars.shown, console=screen):
        for number in range(show.ROOM + 1):
            bars(f"set {number}", 0, 20)
        bars("set 3", 20, 20)
        bars("set 4", 19, 20)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "set 4 " in told
    assert "set 3 " not in told


def test_a_log_holds_a_line_for_each_step_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Console(file=StringIO())
    monkeypatch.setattr(show, "errors", log)
    with show.progress() as told:
        told("embed [cases]", 64, 1200)
        told.say("About [3] s left.")
        told("embed [cases]", 1200, 1200)
        told("embed [cases]", 1200, 1200)
    assert log.file.getvalue() == "embed [cases]: 1,200 done\n"  # type: ignore[attr-defined]


def test_all_sets_are_asked_in_one_go_of_the_engine(
    agent: GSCo, dataset: Dataset, tmp_path: Path
) -> None:
    calls: list[int] = []

    def counted(agent: GSCo, works: Sequence[Portion]) -> Iterator[Done]:
        calls.append(len(works))
        for done in one_by_one(agent, works):
            ready.append(sorted(path.parent.name for path in tmp_path.glob("*/set.json")))
            yield done

    ready: list[list[str]] = []
    items = [Item(name, "spots", dataset) for name in ("first", "second")]
    run(agent, items, ("stack",), tmp_path, engine=counted)
    assert calls == [2]
    # A set that is answered can be measured while the next is asked.
    assert ready == [[], ["first"]]
