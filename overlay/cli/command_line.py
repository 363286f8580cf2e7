"""The whole command line, put together from its nouns, and how it ends."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, NoReturn

import typer

from overlay.cli import (
    adapter_drift,
    adapter_exchange,
    adapters,
    agent,
    audit,
    axes,
    bench,
    demo,
    doctor,
    equivalence,
    frames,
    levels,
    mapping,
    memory,
    microvariants,
    models,
    probes,
    reprogram,
    scenario,
    scenarios,
    sessions,
    state,
    teaching,
)
from overlay.cli.console import fail

# Everything heavy is imported inside the commands: `overlay --help` has to answer at once.

app = typer.Typer(
    name="overlay",
    help="Influence an unchanged local language model, and measure what it did.",
    epilog="First steps: overlay init my-home · cd my-home · overlay chat",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
SECTIONS = {
    "The agent": (agent, sessions, audit, state, reprogram, memory, frames),
    "What bends the model, and what it does": (axes, adapters, teaching, mapping, probes, equivalence, levels),
    "Scenarios": (scenario, scenarios),
    "This machine": (doctor, models, demo, bench),
}
"""What the help lists, in its order."""

NOUNS = (state, reprogram, memory, frames, axes, adapters, probes, scenario, models)
"""Whose commands are said behind their noun, as in `overlay axes build`; those of the others stand alone."""

MORE_OF_ADAPTERS = (adapter_drift, adapter_exchange, microvariants)
"""Imported because they add commands to those of `overlay adapters`."""

for section, modules in SECTIONS.items():
    for module in modules:
        for command in module.app.registered_commands:
            # The terminal breaks the lines of a help text, at its own width: a docstring's own breaks would show too.
            paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            if module not in NOUNS:
                command.rich_help_panel = section
        name = module.__name__.rpartition(".")[2] if module in NOUNS else None
        app.add_typer(module.app, name=name, rich_help_panel=section)

STOPPED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as in a shell."""


def main() -> NoReturn:
    """Run the command line; every error of ours ends in a message and an exit code, never in a traceback."""
    from overlay.errors import OverlayError

    try:
        code = app(standalone_mode=False)
    except OverlayError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("stopped; what was finished is saved", STOPPED)
    except typer.Abort:
        fail("stopped", STOPPED)
    except BrokenPipeError:
        # The reader of a pipe left early (`| head`); that is no error of ours.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Errors in the command's own words and options are the only ones that carry their exit code.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    # Typer returns the code of an Exit, and 130 for Ctrl-C, instead of raising it.
    if code == STOPPED:
        fail("stopped; what was finished is saved", STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


def _version(wanted: bool) -> None:
    if wanted:
        from overlay import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Influence an unchanged local language model, and measure what it did."""
