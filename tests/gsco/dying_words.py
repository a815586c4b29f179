"""Run a benchmark of words that kills itself in the middle of writing an answer.

python dying_words.py ROOT WORKSPACE OUT ANSWERS
"""

import os
import signal
import sys
from pathlib import Path

import torch
from test_words import first

from gsco.agent import GSCo
from gsco.evaluation import words
from gsco.evaluation.bench import Scope
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.words import run_words, word_sets
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.settings import Settings


def main() -> None:
    root, workspace, out, left = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    whole = Ledger.add

    def dying(ledger: Ledger, answers: list[Answer]) -> None:
        nonlocal left
        whole(ledger, answers[:left])
        left -= len(answers)
        if left < 0:
            with ledger.path.open("a") as file:
                file.write('{"case": "hal')
                file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    Ledger.add = dying  # type: ignore[method-assign, assignment]
    words.CHUNK = 3
    torch.set_num_threads(1)
    writer = ScriptedGeneralist(first, text=("Findings: the left lung. ", "Impression: clear."))
    agent = GSCo.open(workspace, generalist=writer, settings=Settings())
    run_words(agent, word_sets(root)[0], out, Scope())


if __name__ == "__main__":
    main()
