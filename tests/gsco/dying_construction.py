"""Run constructions that kill themselves, one stage after another, each in a fork of its own.

python dying_construction.py DATA WORKSPACE STAGE...
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

import gsco.construct
import gsco.construction_report
import gsco.fusing
import retrieval.storage
from gsco.construct import Plan, construct
from gsco.datasets import read_dataset
from specialists import train


def die_after(module: object, name: str, when: object = lambda *_: True) -> None:
    """Let a function do its work and then kill the process, as a power cut would."""
    original = getattr(module, name)

    def dying(*given: object, **named: object) -> object:
        done = original(*given, **named)
        if when(*given):  # type: ignore[operator]
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(module, name, dying)


def prepare(stage: str) -> None:
    if stage == "after the first specialist":
        die_after(gsco.construct, "_specialist")
    elif stage == "while training the second":
        die_after(train._Run, "store")
    elif stage == "while saving the index":
        die_after(retrieval.storage, "_write_file")
    elif stage == "while fitting":
        die_after(gsco.fusing, "_write_voices")
    else:
        die_after(gsco.construction_report, "write")


def run(data: Path, workspace: Path, stage: str) -> None:
    prepare(stage)
    train.RECIPES["default"] = replace(train.RECIPES["default"], epochs=2, batch=20)
    plan = Plan(backbones=("resnet18-small", "mobilenetv3-small"))

    def told(step: str, done: int, total: int) -> None:
        with (workspace.parent / "told.txt").open("a") as file:
            file.write(f"{stage}|{step}|{done}\n")

    construct(read_dataset(data), workspace, "spots", plan, progress=told)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for stage in sys.argv[3:]:
        if not (child := os.fork()):
            run(Path(sys.argv[1]), Path(sys.argv[2]), stage)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(stage, os.WTERMSIG(status), sep="|")  # noqa: T201
