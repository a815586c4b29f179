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

from gsco.agent import GSCo
from gsco.case import System
from gsco.datasets import Dataset
from gsco.errors import ClusterError, DataError, UsageError, WorkspaceError
from gsco.evaluation import bench, cluster, stored
from gsco.evaluation.bench import Item, Portion, Scope, run
from gsco.evaluation.cluster import LOOPBACK, QUIET
from gsco.evaluation.engine import Done, Engine, engine_named, one_by_one
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.stored import RESULTS, verify
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


def fail(agent: GSCo, error: Exception) -> list[Answer]:
    raise error


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESAMPLED", 50)
    monkeypatch.setattr(bench, "CHUNK", 4)


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


@pytest.fixture
def whole(agent: GSCo, items: list[Item], tmp_path: Path) -> Path:
    """A finished run of this process."""
    run(agent, items, SYSTEMS, tmp_path / "whole")
    return tmp_path / "whole"


def check_same(out: Path, whole: Path) -> None:
    """A run holds the same results, each case is answered once, and all of it verifies."""
    assert answered(out) == [1] * 40
    assert verify(out) == []
    assert results(out) == results(whole)


def results(out: Path) -> bytes:
    return (out / RESULTS).read_bytes()


@pytest.mark.slow
def test_two_nodes_give_the_bytes_that_one_process_gives(
    engine: Engine, agent: GSCo, items: list[Item], whole: Path, tmp_path: Path
) -> None:
    import ray

    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    assert len(ray.nodes()) == 2
    told: list[tuple[str, int, int]] = []
    run(agent, items, SYSTEMS, tmp_path / "out", Scope(), lambda *step: told.append(step), engine)
    check_same(tmp_path / "out", whole)
    assert [done for step, done, _ in told if step == "spots gsco"] == list(range(0, 21, 4))
    before = results(tmp_path / "out")
    run(agent, items, SYSTEMS, tmp_path / "out", engine=engine)
    assert results(tmp_path / "out") == before


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_and_asks_nothing_twice(
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
    run(agent, items, SYSTEMS, out, engine=engine)
    check_same(out, whole)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_said(
    engine: Engine, agent: GSCo, items: list[Item]
) -> None:
    with pytest.raises(ClusterError, match=r"A worker of the Ray cluster stopped\. No such scan"):
        list(engine(agent, [partial(fail, error=DataError("No such scan. Look again."))]))
    with pytest.raises(ClusterError, match=r"gave up .KeyError: 'a bug'.*Run it again"):
        list(engine(agent, [partial(fail, error=KeyError("a bug"))]))


@pytest.mark.slow
def test_a_worker_that_is_killed_has_its_cases_asked_once_by_another(
    engine: Engine,
    workspace: Path,
    items: list[Item],
    whole: Path,
    tmp_path: Path,
) -> None:
    out, bomb = tmp_path / "out", tmp_path / "bomb"

    def deadly(prompt: Prompt) -> Mapping[str, float]:
        if bomb.exists():
            bomb.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return tinted(prompt)

    def lay(step: str, done: int, total: int) -> None:
        if (step, done) == ("spots gsco", 8):
            bomb.touch()

    agent = GSCo.open(workspace, generalist=ScriptedGeneralist(deadly), settings=Settings())
    run(agent, items, SYSTEMS, out, Scope(), lay, engine)
    assert not bomb.exists()
    check_same(out, whole)


@pytest.mark.slow
def test_a_node_that_is_killed_has_its_cases_asked_once_by_the_other(
    two_nodes: Any,
    engine: Engine,
    agent: GSCo,
    items: list[Item],
    whole: Path,
    tmp_path: Path,
) -> None:
    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("spots gsco", 8):
            (node,) = two_nodes.worker_nodes
            two_nodes.remove_node(node, allow_graceful=False)

    run(agent, items, SYSTEMS, tmp_path / "out", Scope(), kill, engine)
    assert len(two_nodes.worker_nodes) == 0
    check_same(tmp_path / "out", whole)


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
