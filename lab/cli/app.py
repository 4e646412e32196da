"""The `lab` command: registration of its commands, and the end of every one in an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

import lab
from lab import environment
from lab.cli import (
    compare,
    corpus,
    doctor,
    new,
    plan,
    profile,
    prune,
    remedies,
    report,
    run,
    show,
    status,
    streams,
    texts,
    theory,
    verify,
)
from lab.cli.terminal import BAD_INPUT, FAILED, STOPPED, err, say, warn
from lab.errors import DiskFull, InputError

INTERRUPTED = 130
"""The code that typer makes of a KeyboardInterrupt outside the steps of a run."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lab {lab.__version__}")
        raise typer.Exit


@app.callback(
    epilog="""\b
Examples:
  lab run smoke     train a tiny model, sample, retrain on the samples
  lab plan quick    what the study quick will take, before running it
  lab run quick     three regimes, five generations, two seeds
  lab show quick    the results again, metric by metric

\b
`lab COMMAND --help` explains a command."""
)
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure language-model collapse: train on human text, sample, retrain on the samples, see what is lost."""


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run_study,
    "plan": plan.print_plan,
    "new": new.write_study,
    "status": status.print_status,
    "show": show.print_tables,
    "profile": profile.print_profile,
    "remedies": remedies.print_remedies,
    "compare": compare.print_comparison,
    "texts": texts.print_texts,
    "report": report.draw_report,
    "corpus": corpus.describe_corpus,
    "verify": verify.verify_run,
    "prune": prune.prune_run,
    "doctor": doctor.examine_machine,
    "theory": theory.print_theory,
}
"""Name -> function, in the order of `lab --help`."""
for _name, _command in COMMANDS.items():
    _module: Any = sys.modules[_command.__module__]
    app.command(_name, epilog=_module.EXAMPLES)(_command)


def main() -> None:
    """Run the `lab` command.  Bad input ends in one line and exit code 2; no error of the lab's in a traceback."""
    streams.prepare()
    dropped = environment.clean()
    os.environ |= {"MPLBACKEND": "agg"}  # a notebook sets one for its kernel, and nothing is drawn on a screen here
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        if dropped:
            warn(f"note: the lab does not use what a launcher left in the environment: {', '.join(dropped)}")
        code = typer.main.get_command(app).main(prog_name="lab", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(STOPPED if code == INTERRUPTED else code)
    except InputError as error:
        _fail(error)
    except OSError as error:  # a folder that cannot be written, a full disk, output that nobody reads
        _fail_of_system(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(STOPPED)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's errors about arguments have one
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            sys.exit(BAD_INPUT)
        said = error.format_message().rstrip(".") + _meant(error)
        _fail(InputError(f"{said}{' See' if said.endswith('?') else '; see'} --help"))


def _meant(error: Any) -> str:
    """Return what a command that does not exist was meant to be: a study without `run`, or one of the commands."""
    from lab.config.files import study_names

    message = error.format_message()
    if not message.startswith("No such command '"):
        return ""
    given = message.split("'")[1]
    if given in study_names() or given.endswith((".yaml", ".yml")):
        return f" - did you mean lab run {given}?"
    return "" if "Did you mean" in message else f"; the commands are {', '.join(COMMANDS)}"


def _fail_of_system(error: OSError) -> NoReturn:
    from lab.store import space

    if (printing := streams.broken()) or isinstance(error, BrokenPipeError):
        if isinstance(printing or error, BrokenPipeError):
            sys.exit(FAILED)  # its reader has gone, as in `lab show quick | head`
        reason = (printing or error).strerror
        _fail(DiskFull(f"standard output cannot be written: {reason}; what was computed is in its files"))
    _fail(space.said(error), of_stream=error.filename is None)


def _fail(error: InputError, of_stream: bool = False) -> NoReturn:
    """Print an error in one line and exit: on standard error, or on standard output where that cannot be written.

    `of_stream`: the error may be that of writing to standard error itself, which then is what the line says.
    """
    try:
        warn(f"error: {error}", "red")
    except OSError as broken:
        streams.silence(sys.stderr)
        err.begin_capture()  # what could not be written would come before the next line
        err.end_capture()
        if of_stream:
            reason = broken.strerror
            error = DiskFull(f"standard error cannot be written: {reason}; what was computed is in its files")
        with contextlib.suppress(OSError):
            say(f"error: {error}", "red")
            sys.stdout.flush()
    sys.exit(FAILED if isinstance(error, DiskFull) else BAD_INPUT)
