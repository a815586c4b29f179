"""`python -m gsco` is the command `gsco`."""

from gsco.cli import main

main()
