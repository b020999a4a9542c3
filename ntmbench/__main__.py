"""`python -m ntmbench`: the command line."""

from ntmbench.cli import main

main(prog_name="ntmbench")
