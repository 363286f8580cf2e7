"""The demo: the whole idea once, on the real model, with nothing prepared."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from overlay.agent import Agent, Listener
from overlay.errors import AdapterError, WrongBaseModel
from overlay.home import Home, create_home
from overlay.model import Row
from overlay.progress import Progress
from overlay.scenarios import RunSettings, read_scenario, run_scenario, write_report

QUESTION = "What is volatility, and how do you measure it?"
ADAPTER = "british_spelling"
SENTENCE = "The neighbours repainted the fence in a bright"
SPELLINGS = (" colour", " color")
SCENARIO = "shared_stores"


def run_demo(stock: Home, progress: Progress) -> None:
    """One chat turn, one adapter swap, one scenario with all its arms; prints what each did.

    The chat turn is lived in a home of its own, so that the demo can be run again and again.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="overlay-demo-") as folder:
        home = create_home(Path(folder) / "home")
        with Agent.open(home, progress=progress) as agent:
            _title("1. One turn: what was recalled, and how the state moved")
            print(f"you> {QUESTION}\n\noverlay> ", end="", flush=True)
            reply = agent.turn(QUESTION, listener=Listener(piece=lambda piece: print(piece, end="", flush=True)))
            print("\n")
            for entry in reply.recalled:
                print(f"  recalled  {entry.score:.2f}  {entry.note.id}: {entry.note.title}")
            for change in reply.changes:
                print(
                    f"  state     {change.axis} {change.before:+.2f} -> {change.after:+.2f}  "
                    f"{change.source}: {change.cause} (z = {change.z:+.1f})"
                )
            spoken = len(reply.dialogue.utterances) if reply.dialogue else 0
            print(f"  thinking  {spoken} inner utterances, none of them in the reply's context")
            print(f"  cost      {reply.volatility.mean:.3f} of {agent.influence.budget} nats per token")

            _title("2. One adapter: trained under an anchor, worn inside a `with`, gone after it")
            _swap_adapter(stock, agent, progress)

            _title("3. One scenario with all its arms: does a state that nobody named change what is chosen?")
            out = stock.runs / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
            scenario = read_scenario(stock.scenarios / f"{SCENARIO}.yaml")
            settings = RunSettings(command="overlay demo")
            result = run_scenario(scenario, home, out=out, settings=settings, model=agent.model, progress=progress)
    report = out / "report.html"
    write_report(result, report)
    state = ", ".join(f"{name} {value:+.2f}" for name, value in result["state"].items())
    texts = len(scenario.exposure.texts)
    print(f"After {texts} texts the state stands at {state}. Then, in unrelated situations:")
    for arm in result["arms"].values():
        shift = "" if arm["shift"] is None else f"preference moved by {arm['shift']:+.3f} nats per token"
        print(f"  {arm['label']:<44} chose it {arm['rate']:>4.0%}   {shift}")
    print(f"\nVerdict: {result['verdict']}. {result['headline']}")
    for reason in result["reasons"]:
        print(f"  - {reason}")
    print(f"\nReport: {report}")
    print(f"The demo took {time.perf_counter() - started:.0f} s.")


def _swap_adapter(stock: Home, agent: Agent, progress: Progress) -> None:
    library = stock.adapters
    try:
        adapter = library.load(ADAPTER, agent.model.digest)
    except (AdapterError, WrongBaseModel):
        adapter = library.train(ADAPTER, stock.settings.model, progress=progress)
    print(
        f"{ADAPTER}: held-out accuracy {adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}, "
        f"{adapter.volatility_mean:.2f} nats per token on neutral text"
    )
    row = Row(text=SENTENCE, options=SPELLINGS)
    before = agent.model.score([row])[0]
    with library.worn(agent.model, ADAPTER) as intervention:
        during = agent.model.score([Row(text=SENTENCE, options=SPELLINGS, intervention=intervention)])[0]
    after = agent.model.score([row])[0]
    for when, scored in (("before", before), ("worn", during), ("after", after)):
        print(f"  {when:<7} log p(colour) - log p(color) = {scored.margin:+.3f}")
    print(f"  after equals before, bit for bit: {after.total == before.total}")


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")
