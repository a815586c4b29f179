"""A ledger that kills its own process in the middle of writing an answer."""

import os
import signal

from gsco.evaluation.ledger import Answer, Ledger


def die_after(left: int) -> None:
    """Let every ledger of this process write so many answers in all, then half of one."""
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
