"""Self-reprogramming: what is due, the decisions so far, one more of them, and back again."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.console import (
    HERE,
    DTypeOption,
    HomeOption,
    JsonOption,
    console_progress,
    new_table,
    print_table,
)

if TYPE_CHECKING:
    from overlay.reprogramming import Decision, Proposal

app = typer.Typer(
    help="Let a state that stays become a part of the agent, once the checks allow it; off unless agent.yaml asks.",
    epilog="Examples: overlay reprogram · overlay reprogram run --dry-run · overlay reprogram undo",
    invoke_without_command=True,
)


@app.callback()
def reprogram(context: typer.Context, home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Without a command: what is due, or that it is off, and every decision so far. No model is loaded."""
    if context.invoked_subcommand is not None:
        for name, option in (("home", "--home"), ("as_json", "--json")):
            if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
                from overlay.errors import ArgumentError

                raise ArgumentError(
                    f"{option} stands before '{context.invoked_subcommand}', where it would be overlooked",
                    f"write `overlay reprogram {context.invoked_subcommand} {option} …`",
                )
        return
    from overlay.home import Home
    from overlay.reprogramming import decisions, due

    opened = Home.open(home)
    settings = opened.settings.reprogramming
    proposal, log = due(opened), decisions(opened)
    if as_json:
        found = {
            "on": settings is not None,
            "settings": settings and settings.model_dump(mode="json"),
            "due": proposal and proposal.record(),
            "decisions": [asdict(one) for one in log],
        }
        print(json.dumps(found, ensure_ascii=False))
        return
    if settings is None:
        print("Self-reprogramming is off: agent.yaml has no `reprogramming`.")
    elif proposal is None:
        print(
            f"Nothing is due: '{settings.axis}' has to stay at {settings.threshold:g} or beyond for {settings.turns} "
            f"turns on end, and {settings.cooldown} turns have to pass after a decision."
        )
    else:
        _print_proposal(proposal)
        if proposal.hindrance:
            print(f"In the way: {proposal.hindrance}.")
    if log:
        table = new_table("no.", "when", "what", "decision", "why", "evidence")
        for one in log:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.time))
            why = "\n".join(one.reasons) or one.words
            table.add_row(str(one.number), when, one.name or one.axis, one.outcome, why, "\n".join(_evidence(one)))
        print_table(table)
    else:
        print("No decision was made yet.")


@app.command("run", epilog="Examples: overlay reprogram run --dry-run · overlay reprogram run --json")
def reprogram_run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build and check alone: nothing is adopted or written down.")
    ] = False,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Build what is due, check it, and adopt it or roll it back; the decision is written down with its evidence."""
    from overlay.errors import HomeError
    from overlay.home import Home
    from overlay.reprogramming import decide, due

    opened = Home.open(home)
    if opened.settings.reprogramming is None:
        raise HomeError(
            "self-reprogramming is off", f"it is on once `reprogramming` stands in {opened.folder / 'agent.yaml'}"
        )
    proposal = due(opened)
    if proposal is None:
        print("null" if as_json else "Nothing is due.")
        return
    if proposal.hindrance:
        decision = decide(opened, proposal, dry_run=dry_run)
    else:
        from overlay.model import LanguageModel, VolatilityGauge

        with console_progress() as progress:
            progress.step(f"loading {opened.settings.model}", None, None)
            model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
            decision = decide(opened, proposal, model, VolatilityGauge(model), progress, dry_run=dry_run)
    if as_json:
        print(json.dumps(asdict(decision), ensure_ascii=False))
    else:
        _print_proposal(proposal)
        _print_decision(decision)


@app.command("undo", epilog="Example: overlay reprogram undo")
def reprogram_undo(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Put back what was in force before the last adoption; the journal says so. No model is loaded."""
    from overlay.home import Home
    from overlay.reprogramming import undo

    decision = undo(Home.open(home))
    if as_json:
        print(json.dumps(asdict(decision), ensure_ascii=False))
    else:
        _print_decision(decision)


def _print_proposal(proposal: Proposal) -> None:
    first, last = proposal.turns[0], proposal.turns[-1]
    what = "an update of the axis" if proposal.writes == "axis" else "an adapter"
    beyond = f"{'above +' if proposal.side == 'high' else 'below -'}{proposal.threshold:g}"
    print(
        f"Due: '{proposal.axis}' stayed {beyond} for "
        f"{len(proposal.turns)} turns, from turn {first[1]} of {first[0]} to turn {last[1]} of {last[0]}."
    )
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(proposal.left_out.items()))
    print(
        f"Proposed: {what} from {len(proposal.pairs)} own texts, each with a twin of calm turns"
        # What is in the way says it again, and is told below: here, or as the reason of the decision.
        f"{f' (left out: {left_out})' if left_out and left_out not in proposal.hindrance else ''}."
    )


def _print_decision(decision: Decision) -> None:
    would = " (dry run: nothing was changed or written down)" if decision.dry_run else ""
    print(
        f"Decision {decision.number}, '{decision.name or decision.axis}': {decision.outcome}{would}; {decision.words}."
    )
    for reason in decision.reasons:
        print(f"  - {reason}")
    for line in _evidence(decision):
        print(f"  {line}")


def _evidence(decision: Decision) -> list[str]:
    """What was measured before and after, in lines."""
    before, after = decision.before, decision.after
    if not after or not before or decision.outcome in ("undone", "cut off"):
        return []
    if decision.writes == "axis":
        fresh = [
            f"{group} {before['confirmation'][group]:.2f} -> {v:.2f}" for group, v in after["confirmation"].items()
        ]
        return [
            f"AUROC on fresh texts: {', '.join(fresh)}",
            f"AUROC of held-out own texts against their twins: {before['own']:.2f} -> {after['own']:.2f}",
            f"cosine to the axis before: {after['cosine']:.3f}, grown from {after['texts']} own texts",
        ]
    return [
        f"held-out own texts: {after['gain_own']:+.3f} nats per token (p = {after['p']:.3f}), calm ones "
        f"{after['gain_calm']:+.3f}",
        f"on neutral text: {after['volatility']:.3f} nats per token",
        f"{after['steps']} steps on {after['texts']} own texts",
    ]
