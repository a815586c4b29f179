"""Run a benchmark of words that kills itself in the middle of writing an answer.

python dying_words.py ROOT WORKSPACE OUT ANSWERS
"""

import sys
from pathlib import Path

import torch
from dying import die_after
from test_words import first

from gsco.agent import GSCo
from gsco.evaluation import words
from gsco.evaluation.bench import Scope
from gsco.evaluation.words import run_words
from gsco.evaluation.wordsets import word_sets
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.settings import Settings


def main() -> None:
    root, workspace, out, left = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    die_after(left)
    words.CHUNK = 3
    torch.set_num_threads(1)
    writer = ScriptedGeneralist(first, text=("Findings: the left lung. ", "Impression: clear."))
    agent = GSCo.open(workspace, generalist=writer, settings=Settings())
    run_words(agent, word_sets(root)[0], out, Scope())


if __name__ == "__main__":
    main()
