"""``python -m pytest_vbox.cli``: the command, where it is not on the path."""

from pytest_vbox.cli import main

main(prog_name="pytest-vbox")
