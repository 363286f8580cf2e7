"""Scenario scripts before they are run: checking, starting, completing and planning them, and their detectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.mistakes import MISTAKEN, mistakes_of, print_mistakes
from overlay.cli.written_files import begin_file, write_or_print

if TYPE_CHECKING:
    from overlay.scenarios.detectors import CheckedRate, Detector, DetectorCheck, Instruments
    from overlay.scenarios.outline import Outline
    from overlay.statistics import Interval, Power, PowerPlan, SmallestPlan

USUAL_ITEMS = 8
USUAL_PARAPHRASES = 4
"""The size of a scenario that nobody described: that of the stock ones."""

app = typer.Typer(help="Check, start and plan scenario scripts.", no_args_is_help=True)


@app.command(
    "check", epilog="Examples: overlay scenario check scenarios/*.yaml · overlay scenario check my.yaml --json"
)
def scenario_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenario scripts.")],
    as_json: JsonOption = False,
) -> None:
    """Say how large each script is, or list its mistakes with file and line; the exit code is 2 if there are any.

    The exposures that a script names are read as well. Axes, adapters and sessions are those of a home, and are
    looked up when the script is run.
    """
    from dataclasses import asdict

    from overlay.errors import DocumentError
    from overlay.scenarios import schema
    from overlay.scenarios.outline import outline
    from overlay.scenarios.script import read_scenario

    listed = []
    for path in files:
        try:
            found = outline(read_scenario(path))
        except DocumentError as error:
            broken = schema.scenario_schema() if error.path == path else schema.exposure_schema()
            mistakes = mistakes_of(error, broken)
            # A script ends at its first error: what to do next is the file's.
            rows = [{key: value for key, value in asdict(one).items() if key != "next_step"} for one in mistakes]
            listed.append({"file": str(path), "ok": False, "mistakes": rows, "next_step": error.next_step})
            if not as_json:
                print_mistakes(mistakes)
        else:
            listed.append({"file": str(path), "ok": True, "mistakes": [], "outline": asdict(found)})
            if not as_json:
                _print_outline(path, found)
    wrong = sum(not one["ok"] for one in listed)
    if as_json:
        print(json.dumps(listed, ensure_ascii=False))
    elif len(files) > 1:
        print(f"{len(files)} scripts, {wrong} with mistakes")
    if wrong:
        raise typer.Exit(MISTAKEN)


def _print_outline(path: Path, found: Outline) -> None:
    fewest, most = found.paraphrases
    wordings = f"{most}" if fewest == most else f"{fewest} to {most}"
    print(f"{path}: OK")
    print(f"  {found.scenario}: {found.items} items, {wordings} paraphrases each, {found.units} units")
    for which, size in (("core", found.core), ("all", found.whole)):
        written = f" and {size.texts:,} written texts" if size.texts else ""
        print(
            f"  --arms {which}: {len(size.arms)} arms, {size.directions} random directions, {size.cells:,} cells; "
            f"at most about {size.rows:,} scored rows{written}"
        )
    print(f"  arms: {', '.join(found.whole.arms)}")
    print(f"  detectors: {', '.join(found.detectors)}; the verdict rests on {found.primary}")
    for note in found.notes:
        print(f"  note: {note}")


@app.command("new", epilog="Example: overlay scenario new night_shift --to scenarios")
def scenario_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, - and _.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write it; made if it isn't there.")] = HERE,
) -> None:
    """Write a script to start from: explained line by line, and without mistakes as it stands."""
    from overlay.scenarios.schema import SCENARIO_FILE
    from overlay.scenarios.template import new_script

    script, path = new_script(name), to / f"{name}.yaml"
    begin_file(path, script)
    print(f"{path}: change it, then run `overlay scenario check {path}`")
    if not (to / SCENARIO_FILE).exists():
        print(f"So that editors complete it: overlay scenario schema --out {to / SCENARIO_FILE}")


@app.command(
    "schema",
    epilog="Examples: overlay scenario schema --out scenarios/scenario.schema.json · "
    "overlay scenario schema --exposures",
)
def scenario_schema(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")] = None,
    exposures: Annotated[bool, typer.Option("--exposures", help="That of the files in exposures/ instead.")] = False,
) -> None:
    """Print the JSON Schema of scenario scripts, by which editors complete and check them.

    A script names it in its first line: # yaml-language-server: $schema=scenario.schema.json
    """
    from overlay.document_schema import schema_text
    from overlay.scenarios import schema

    write_or_print(schema_text(schema.exposure_schema() if exposures else schema.scenario_schema()), out)


@app.command(
    "power",
    epilog="Examples: overlay scenario power scenarios/shared_stores.yaml --base-rate 0.3 --effect 0.2 · "
    "overlay scenario power --scenarios 10 --items 8 --paraphrases 4 --scenario-sd 0.15 --json",
)
def scenario_power(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A script that items and paraphrases are taken from.")
    ] = None,
    base_rate: Annotated[float, typer.Option(help="Share of units with the behaviour in the base arm.")] = 0.3,
    effect: Annotated[float, typer.Option(help="What the state is thought to add to that share.")] = 0.2,
    scenarios: Annotated[int, typer.Option(help="Scenarios that are run.")] = 1,
    items: Annotated[int | None, typer.Option(help="Items in each, instead of FILE's; 8 without one.")] = None,
    paraphrases: Annotated[
        int | None, typer.Option(help="Paraphrases of each item, instead of FILE's; 4 without one.")
    ] = None,
    likeness: Annotated[float, typer.Option(help="How alike answers to one item are, 0 to 1.")] = 0.5,
    item_sd: Annotated[float, typer.Option(help="Spread of the treated share over items.")] = 0.1,
    scenario_sd: Annotated[float, typer.Option(help="Spread of it over scenarios; for one, without meaning.")] = 0.1,
    runs: Annotated[int, typer.Option(min=100, help="Simulated runs.")] = 2000,
    target: Annotated[float, typer.Option(help="The power that the smallest plan has to reach.")] = 0.8,
    as_json: JsonOption = False,
) -> None:
    """Before a run: how likely it is to show an effect of this size, and how large it would have to be.

    Simulated runs go through the very tests that judge real ones. The numbers that you assume about the world
    (base rate, effect, spreads, likeness) decide the answer: take them from an earlier run where there is one.
    """
    from overlay.statistics import PowerPlan, estimate_power, smallest_plan

    from_file = (USUAL_ITEMS, USUAL_PARAPHRASES) if file is None else _planned(file)
    plan = PowerPlan(
        scenarios=scenarios,
        items=from_file[0] if items is None else items,
        paraphrases=from_file[1] if paraphrases is None else paraphrases,
        base_rate=base_rate,
        effect=effect,
        scenario_sd=scenario_sd if scenarios > 1 else 0.0,
        item_sd=item_sd,
        likeness=likeness,
    )
    with console_progress() as progress:
        progress.step(f"simulating {runs:,} runs of the plan", None, None)
        power = estimate_power(plan, runs=runs)
        progress.step(f"looking for the smallest plan with a power of {target:g}", None, None)
        smallest = smallest_plan(plan, target=target, runs=runs)
    earliest = _earliest_stop(plan)
    if as_json:
        print(json.dumps(_power_document(plan, power, smallest, target, earliest), ensure_ascii=False))
    else:
        _print_power(plan, power, smallest, target, earliest)


def _planned(file: Path) -> tuple[int, int]:
    """Items and paraphrases of a script; the fewest paraphrases where items differ, or as few as are registered."""
    from overlay.scenarios.script import read_scenario

    scenario = read_scenario(file)
    items = len(scenario.trial.items)
    fewest = min(len(item.paraphrases) for item in scenario.trial.items)
    units = scenario.preregistration.units
    return items, fewest if units is None else max(1, min(fewest, units // items))


def _earliest_stop(plan: PowerPlan) -> int | None:
    """After how many pairs in one direction a run may stop early; None when the plan has too few."""
    from overlay.statistics import sequential_evidence

    pairs = plan.items if plan.scenarios == 1 else plan.scenarios
    return sequential_evidence([False] * pairs, [True] * pairs).crossed_after


def _power_document(
    plan: PowerPlan, power: Power, smallest: SmallestPlan, target: float, earliest: int | None
) -> dict[str, Any]:
    from dataclasses import asdict

    def figures(found: Power) -> dict[str, Any]:
        return {
            "power": found.power,
            "interval": [found.interval.low, found.interval.high],
            "false_alarms": found.false_alarms,
            "false_alarms_interval": [found.false_alarms_interval.low, found.false_alarms_interval.high],
        }

    return {
        "plan": asdict(plan),
        **figures(power),
        "runs": power.runs,
        "tests": list(power.tests),
        "target": target,
        "smallest": {"plan": asdict(smallest.plan) if smallest.plan else None, **figures(smallest.power)},
        "earliest_stop": earliest,
    }


def _print_power(plan: PowerPlan, power: Power, smallest: SmallestPlan, target: float, earliest: int | None) -> None:
    judged = {
        "pairs": "exact McNemar over pairs",
        "items": "sign flip over items",
        "scenarios": "sign flip over scenarios",
    }
    table = new_table("plan", "scenarios", "items", "paraphrases", "power", "false alarms")
    reached = [("as planned", plan, power)]
    if smallest.plan is not None:
        reached.append((f"smallest for {target:.0%}", smallest.plan, smallest.power))
    for name, size, found in reached:
        table.add_row(
            name,
            *map(str, (size.scenarios, size.items, size.paraphrases)),
            _share(found.power, found.interval),
            _share(found.false_alarms, found.false_alarms_interval),
        )
    print_table(table)
    print(
        f"Assumed: {plan.base_rate:.0%} show the behaviour in base, {plan.base_rate + plan.effect:.0%} when treated. "
        f"Judged by {' and '.join(judged[test] for test in power.tests)}; {power.runs:,} simulated runs."
    )
    if smallest.plan is None:
        what = "items" if plan.scenarios == 1 else "scenarios"
        print(f"However many {what} are planned, a power of {target:.0%} isn't reached: {smallest.power.power:.1%}.")
    if earliest is not None:
        one = "item" if plan.scenarios == 1 else "scenario"
        print(
            f"Stopping early: the e-value of one pair per {one} may be looked at after each of them; "
            f"it gets to 20 after {earliest} {one}s in a row at the earliest."
        )


def _share(share: float, interval: Interval) -> str:
    return f"{share:.1%} ({interval.low:.1%} to {interval.high:.1%})"


@app.command(
    "detectors",
    epilog="Examples: overlay scenario detectors scenarios/shared_stores.yaml · "
    "overlay scenario detectors my.yaml --home my-home --json",
)
def scenario_detectors(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario script.")],
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """How often each detector of a script is right on its labelled examples, with 95% intervals.

    A home is needed only where a detector looks through its model (task_break, judge) or its embedder (similarity).
    Rates of a run are corrected by these numbers; what a detector couldn't read is left out, never counted.
    """
    from overlay.scenarios.detectors import DetectorCheck, check_detector, needs
    from overlay.scenarios.script import read_scenario

    scenario = read_scenario(file)
    checks = []
    with console_progress() as progress:
        instruments = _instruments(scenario.detectors, home, dtype, scenario.forbidden, progress)
        for done, detector in enumerate(scenario.detectors):
            progress.step("checking detectors", done, len(scenario.detectors), detector.name)
            unchecked = DetectorCheck(detector.name, detector.kind, exact=False)
            without = needs(detector) is not None and not detector.examples
            checks.append(unchecked if without else check_detector(detector, instruments))
    if as_json:
        document = {"scenario": scenario.name, "detectors": [_check_document(one) for one in checks]}
        print(json.dumps(document, ensure_ascii=False))
    else:
        _print_checks(checks)


def _instruments(
    detectors: tuple[Detector, ...], home: Path, dtype: str, forbidden: tuple[str, ...], progress: Any
) -> Instruments:
    """What the detectors that have examples look through; the home isn't opened for less."""
    from overlay.scenarios.detectors import Instruments, needs

    needed = {needs(detector) for detector in detectors if detector.examples} - {None}
    if not needed:
        return Instruments(forbidden=forbidden)
    from overlay.home import Home

    opened = Home.open(home)
    model = embedder = None
    if "model" in needed:
        from overlay.model import LanguageModel

        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
    if "embedder" in needed:
        from overlay.agent import open_embedder

        progress.step(f"loading {opened.settings.embedder}", None, None)
        embedder = open_embedder(opened, progress=progress)
    return Instruments(model, embedder, forbidden)


def _check_document(check: DetectorCheck) -> dict[str, Any]:
    return {
        "name": check.detector,
        "kind": check.kind,
        "exact": check.exact,
        "sensitivity": check.sensitivity and check.sensitivity.to_json(),
        "specificity": check.specificity and check.specificity.to_json(),
        "mistakes": [{"text": one.text, "fires": one.fires} for one in check.mistakes],
        "excluded": [{"text": one.text, "reason": reason} for one, reason in check.excluded],
    }


def _print_checks(checks: list[DetectorCheck]) -> None:
    def figures(check: DetectorCheck, rate: CheckedRate | None) -> str:
        if check.exact:
            return "exact"
        if rate is None:
            return "no examples"
        return f"{rate.rate:.0%} ({rate.interval.low:.0%} to {rate.interval.high:.0%}), {rate.right} of {rate.n}"

    table = new_table("detector", "kind", "sensitivity", "specificity", "left out")
    for check in checks:
        counted = figures(check, check.sensitivity), figures(check, check.specificity)
        table.add_row(check.detector, check.kind, *counted, str(len(check.excluded)))
    print_table(table)
    for check in checks:
        for example in check.mistakes:
            wrongly = "silent on" if example.fires else "fires on"
            print(f"{check.detector} is wrong, {wrongly}: {example.text}")
        for example, reason in check.excluded:
            print(f"{check.detector} leaves out ({reason}): {example.text}")
