"""The benchmark on a cluster of two nodes on this machine, one of which dies."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked_layouts import r2gen, vqa_rad

from gsco.agent import GSCo
from gsco.case import System
from gsco.datasets import Dataset
from gsco.errors import ClusterError, DataError, UsageError, WorkspaceError
from gsco.evaluation import bench, cluster, stored, words
from gsco.evaluation.bench import Item, Portion, Scope, run
from gsco.evaluation.cluster import LOOPBACK, QUIET
from gsco.evaluation.engine import Done, Engine, engine_named, one_by_one
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.stored import RESULTS, verify
from gsco.evaluation.words import run_words, verify_words
from gsco.evaluation.wordsets import word_sets
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt
from gsco.settings import Settings

SYSTEMS: tuple[System, ...] = ("specialist", "gsco")
STORE = 100 * 2**20
# Ray sets and warns of its own old settings.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")


def tinted(prompt: Prompt) -> Mapping[str, float]:
    """Say what the tint says."""
    red, _, blue = np.asarray(prompt.images[-1], dtype=np.float64).reshape(-1, 3).mean(axis=0)
    sure = float(1 / (1 + np.exp(-(red - blue) / 40)))
    return {"red spot": sure, "blue spot": 1 - sure}


def first(prompt: Prompt) -> Mapping[str, float]:
    """Say the first of the answers."""
    return {answer: float(answer == prompt.answers[0]) for answer in prompt.answers}


def fail(agent: GSCo, error: Exception) -> list[Answer]:
    raise error


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stored, "RESAMPLED", 50)
        patched.setattr(bench, "CHUNK", 4)
        yield


@pytest.fixture
def agent(workspace: Path) -> GSCo:
    return GSCo.open(workspace, generalist=ScriptedGeneralist(tinted), settings=Settings())


@pytest.fixture
def items(dataset: Dataset) -> list[Item]:
    return [Item("spots", "spots", dataset)]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    os.environ.update({**QUIET, **LOOPBACK})
    pytest.importorskip("ray", reason="Ray is not installed: the extra [ray]")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def engine(two_nodes: Any) -> Iterator[Engine]:
    import ray

    # The module's functions are no package that a worker could import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with engine_named("ray", two_nodes.address) as joined:
        yield joined


def answered(out: Path) -> list[int]:
    """Return how often each case stands in each ledger."""
    ledgers = [Ledger.at(path) for path in out.glob("spots/*.jsonl") if path.stem != "cases"]
    return [n for one in ledgers for n in Counter(a.case for a in one.lines()).values()]


@pytest.fixture(scope="module")
def whole(
    small: None, workspace: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of this process."""
    out = tmp_path_factory.mktemp("whole")
    agent = GSCo.open(workspace, generalist=ScriptedGeneralist(tinted), settings=Settings())
    run(agent, [Item("spots", "spots", dataset)], SYSTEMS, out)
    return out


def check_same(out: Path, whole: Path) -> None:
    """A run holds the same results, each case is answered once, and all of it verifies."""
    assert answered(out) == [1] * 40
    assert verify(out) == []
    assert results(out) == results(whole)


def results(out: Path) -> bytes:
    return (out / RESULTS).read_bytes()


@pytest.mark.slow
def test_questions_and_reports_are_asked_on_two_nodes_as_in_one_process(
    engine: Engine, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "CHUNK", 4)
    for name, write in (("vqa-rad", vqa_rad), ("iu-xray", r2gen("iu-xray"))):
        (tmp_path / "sets" / name).mkdir(parents=True)
        write(tmp_path / "sets" / name)
    sets, _ = word_sets(tmp_path / "sets")
    agent = GSCo.open(workspace, generalist=ScriptedGeneralist(first), settings=Settings())
    for out, asking in ((tmp_path / "one", one_by_one), (tmp_path / "two", engine)):
        assert run_words(agent, sets, out, Scope(), "spots", engine=asking) is not None
    assert verify_words(tmp_path / "two") == []
    told = [(tmp_path / out / words.RESULTS).read_bytes() for out in ("one", "two")]
    assert told[0] == told[1]
    for one in sets:
        (path,) = (tmp_path / "two" / one.name).glob("generalist.*.jsonl")
        asked = [answer.case for answer in Ledger.at(path).lines()]
        assert sorted(asked) == sorted(question.id for question in one.asked)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_said(
    engine: Engine, agent: GSCo, items: list[Item]
) -> None:
    with pytest.raises(ClusterError, match=r"A worker of the Ray cluster stopped\. No such scan"):
        list(engine(agent, [partial(fail, error=DataError("No such scan. Look again."))]))
    with pytest.raises(ClusterError, match=r"gave up .KeyError: 'a bug'.*Run it again"):
        list(engine(agent, [partial(fail, error=KeyError("a bug"))]))


# The plain way, in which nobody dies, is that of the questions.
@pytest.mark.slow
def test_two_nodes_give_the_bytes_of_one_process_even_where_a_worker_is_killed(
    engine: Engine,
    workspace: Path,
    items: list[Item],
    whole: Path,
    tmp_path: Path,
) -> None:
    import ray

    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    assert len(ray.nodes()) == 2
    out, bomb = tmp_path / "out", tmp_path / "bomb"
    told: list[tuple[str, int]] = []

    def deadly(prompt: Prompt) -> Mapping[str, float]:
        if bomb.exists():
            bomb.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return tinted(prompt)

    def lay(step: str, done: int, total: int) -> None:
        told.append((step, done))
        if (step, done) == ("spots gsco", 8):
            bomb.touch()

    agent = GSCo.open(workspace, generalist=ScriptedGeneralist(deadly), settings=Settings())
    run(agent, items, SYSTEMS, out, Scope(), lay, engine)
    assert not bomb.exists()
    check_same(out, whole)
    assert [done for step, done in told if step == "spots gsco"] == list(range(0, 21, 4))
    run(agent, items, SYSTEMS, out, engine=engine)
    check_same(out, whole)


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_and_asks_nothing_twice_even_where_a_node_dies(
    two_nodes: Any,
    engine: Engine,
    agent: GSCo,
    items: list[Item],
    whole: Path,
    data: Path,
    workspace: Path,
    tmp_path: Path,
) -> None:
    out, script = tmp_path / "out", Path(__file__).with_name("dying_benchmark.py")
    words = [sys.executable, script, data, workspace, out, "24", two_nodes.address]
    places = [Path(__file__).parents[2], script.parent, script.parents[1] / "support"]
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, places))}
    ran = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert len(answered(out)) == 24

    def kill(step: str, done: int, total: int) -> None:
        # Some answers of either system were there, how many of each depends on who was quicker.
        if step == "spots gsco" and done >= 8 and two_nodes.worker_nodes:
            (node,) = two_nodes.worker_nodes
            two_nodes.remove_node(node, allow_graceful=False)

    run(agent, items, SYSTEMS, out, Scope(), kill, engine)
    assert len(two_nodes.worker_nodes) == 0
    check_same(out, whole)


def test_other_models_than_those_of_the_ledger_are_refused(
    agent: GSCo, dataset: Dataset, tmp_path: Path
) -> None:
    portions: list[Portion] = []

    def keep(agent: GSCo, works: Sequence[Portion]) -> Iterator[Done]:
        portions.extend(works)
        return one_by_one(agent, works)

    run(agent, [Item("spots", "spots", dataset)], ("gsco",), tmp_path / "out", engine=keep)
    agent.settings = replace(agent.settings, neighbours=3)
    agent._tools.clear()
    with pytest.raises(WorkspaceError, match="not the one that the run began with"):
        portions[0](agent)


def test_without_ray_or_a_cluster_a_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    with pytest.raises(UsageError, match=r"Unknown engine 'rai'. Did you mean 'ray'"):
        engine_named("rai")
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "import_module", missing)
        with pytest.raises(UsageError, match=r"pip install 'gsco\[ray\]'"), engine_named("ray"):
            pass
    pytest.importorskip("ray", reason="Ray is not installed: the extra [ray]")
    away = engine_named("ray", "127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"'127\.0\.0\.1:1'.*--ray-address"), away:
        pass
