"""The whole command line, put together from its nouns, and how it ends."""

from __future__ import annotations

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
# In the order in which the help lists them.
for unnamed in (agent, sessions, scenarios, levels, mapping, teaching, equivalence, audit, doctor, demo, bench):
    app.add_typer(unnamed.app)
app.add_typer(scenario.app, name="scenario")
app.add_typer(state.app, name="state")
app.add_typer(reprogram.app, name="reprogram")
app.add_typer(memory.app, name="memory")
app.add_typer(frames.app, name="frames")
app.add_typer(axes.app, name="axes")
app.add_typer(adapters.app, name="adapters")
app.add_typer(probes.app, name="probes")
app.add_typer(models.app, name="models")

MORE_OF_ADAPTERS = (adapter_drift, adapter_exchange, microvariants)
"""Imported because they add commands to those of `overlay adapters`."""

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
