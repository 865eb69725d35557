"""The program ``gsac``: parses the arguments with tyro, and runs the command that they name."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import takewhile
from typing import Annotated, Any, Union

import tyro

from gsac.checks import check_choice, did_you_mean
from gsac.cli.compare import Compare
from gsac.cli.evaluate import Evaluate
from gsac.cli.export import Export
from gsac.cli.messages import one_line_errors
from gsac.cli.train import Resume, Train, train_command
from gsac.experiments.models import ALGORITHMS
from gsac.experiments.presets import preset

COMMANDS: dict[str, Any] = {"train": Train, "evaluate": Evaluate, "export": Export, "compare": Compare}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name. The entry point of ``gsac``."""
    parse(list(sys.argv[1:] if argv is None else argv)).run()


def parse(argv: list[str]) -> Any:
    """Reads the command and its flags. Ends the program with one line and exit code 2 if they are wrong."""
    with one_line_errors(ValueError):
        if argv and not argv[0].startswith("-"):
            check_choice("command", argv[0], COMMANDS)
        commands = {name: Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()}
        if argv[:1] == ["train"]:
            commands["train"] = _train_subcommand(argv[1:])
        one_of_the_commands: Any = Union[tuple(commands.values())]  # noqa: UP007
        see_help = " ".join(["See gsac", *(name for name in argv[:1] if name in COMMANDS), "--help."])
        panel = io.StringIO()
        try:
            with contextlib.redirect_stderr(panel):
                command, unknown = tyro.cli(
                    one_of_the_commands,
                    prog="gsac",
                    description="Soft actor-critic for discrete actions, and REINFORCE.",
                    args=argv,
                    return_unknown_args=True,  # tyro itself would suggest other options in a table, not in one line
                )
        except SystemExit as stop:
            if stop.code == 0:  # --help
                raise
            raise ValueError(f"{_error_in(panel.getvalue())} {see_help}") from None
        if unknown:
            flags = [f"--{field.name.replace('_', '-')}" for field in fields(command)]
            hint = did_you_mean(unknown[0].split("=")[0], flags)
            raise ValueError(f"{unknown[0]!r} is not an option.{hint} {see_help}")
    return command


def _train_subcommand(argv: list[str]) -> Any:
    """Returns ``gsac train`` with the flags of the algorithm and the defaults of the preset that the arguments name."""
    # The other flags depend on these two, so that they are read first; argparse can skip flags that it does not know.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--algo", nargs="?")
    first.add_argument("--resume", nargs="?", const="")
    named, _ = first.parse_known_args(argv)
    if named.resume is not None:
        return Annotated[Resume, tyro.conf.subcommand("train")]
    algo = named.algo if named.algo in ALGORITHMS else "gsac"
    train: Any = train_command(algo)
    defaults = train(env=tyro.MISSING, algo=algo, **_preset_flags(argv, train, algo))
    return Annotated[train, tyro.conf.subcommand("train", default=defaults, description=Train.__doc__)]


def _preset_flags(argv: list[str], train: Any, algo: str) -> dict[str, Any]:
    """Returns the preset's values by the names of the flags; empty without --preset, or if the arguments are wrong.

    tyro.extras.overridable_config_cli() would list the presets as subcommands; here the environment names its preset. Which
    of the words is the environment, and which the value of a flag, is known when all flags have been read.

    :raises ValueError: there is no preset for the environment or the algorithm
    """
    if "--preset" not in argv:
        return {}
    try:
        command, unknown = tyro.cli(train, args=argv, return_unknown_args=True, add_help=False, console_outputs=False)
    except SystemExit:  # parse() finds the same error, and prints it
        return {}
    if not command.preset or not set(unknown) <= {"-h", "--help"}:
        return {}
    if algo != "gsac":
        raise ValueError(f"--preset has settings of gsac, not of {algo}: leave out --preset, or --algo {algo}.")
    return preset(command.env).flags()


def _error_in(panel: str) -> str:
    """Extracts the first paragraph of a panel that tyro printed, in one line. tyro gives its errors in no other public way."""
    _, paragraphs, *_ = [*re.split(r"(?m)^[│ ]*(?:╭|[─-]{4}).*\n", panel, maxsplit=2), panel]
    lines = [line.strip("│ ") for line in paragraphs.splitlines()]
    return " ".join(takewhile(bool, lines))
