"""Overlay as a model of Inspect (inspect-ai), so that any of its tasks can be put to the agent of a home.

    inspect eval TASK.py --model overlay/HOME [-M state=false] [-M dtype=float32]

The last message from the user is one turn of a conversation that begins at the home's present state; the messages
before it are its history. Nothing is written into the home. With `-M state=false` every accumulator begins at rest:
the control that has the same notes, frames and adapters, and whose state hasn't built up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from pydantic import ValidationError

from overlay.errors import ArgumentError

if TYPE_CHECKING:
    from overlay.home import ReplySettings
    from overlay.present_agent import PresentAgent, PresentAnswer

_STOP_REASONS: dict[str, StopReason] = {"end": "stop", "stop": "stop", "length": "max_tokens", "cancelled": "unknown"}

_SAMPLING = ("max_tokens", "temperature", "top_p")

_REFUSED = {
    "stop_seqs": [],
    "best_of": 1,
    "num_choices": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "top_k": None,
    "logprobs": False,
    "top_logprobs": None,
    "prompt_logprobs": None,
    "response_schema": None,
    "modalities": ["text"],
}
"""Settings that would change what comes back and that the agent has no part for, each with the value that asks for
nothing. Left out silently, they would make a task measure something else than it says."""


class OverlayModel(ModelAPI):
    """The agent of a home, as Inspect asks models. One turn at a time.

    Args:
        model_name: the folder of the home.
        dtype: the number format, as `overlay chat --dtype` takes it.
        state: False begins every answer with all accumulators at rest.

    Raises:
        ArgumentError: a model argument is unknown or of another kind; and what `PresentAgent.open` raises.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        dtype: str = "auto",
        state: bool = True,
        **unknown: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        if unknown:
            raise ArgumentError(
                f"an overlay model has no argument {', '.join(sorted(unknown))}", "it knows -M dtype=… and -M state=…"
            )
        if not isinstance(state, bool):
            raise ArgumentError(f"state is {state!r}, neither true nor false", "say -M state=true or -M state=false")
        # Brings torch: whoever only lists models doesn't wait for it.
        from overlay.present_agent import PresentAgent

        self.agent: PresentAgent = PresentAgent.open(model_name, with_state=state, dtype=dtype)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One turn of the agent.

        Raises:
            ArgumentError: the task gives tools, pictures or settings that the agent has no part for, or its last
                message isn't from the user.
        """
        if tools:
            raise ArgumentError(
                f"an overlay agent calls no tools, and the task offers {', '.join(tool.name for tool in tools)}",
                "run a task without tools",
            )
        reply = _reply_settings(self.agent.home.settings.reply, config)
        instructions, history, said = _conversation(input)
        cancelled = threading.Event()
        ask = partial(
            self.agent.answer,
            said,
            history,
            instructions=instructions,
            reply=reply,
            seed=config.seed,
            cancelled=cancelled,
        )
        try:
            found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        finally:
            # A reply that nobody waits for any more ends at its next token.
            cancelled.set()
        return _output(self.model_name, found, self.agent.state)

    def close(self) -> None:
        """Let the agent go; nothing of it is left on disk."""
        self.agent.close()

    def max_connections(self) -> int:
        """One turn at a time: a turn has the whole model."""
        return 1

    def connection_key(self) -> str:
        """Turns of different homes don't wait for each other."""
        return str(self.model_name)

    async def count_text_tokens(self, text: str) -> int:
        """Tokens of a text as the home's model counts them."""
        return len(self.agent.model.tokenizer.encode(text, add_special_tokens=False))

    def collapse_user_messages(self) -> bool:
        """A turn has one text."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """A turn has one answer."""
        return True


@modelapi(name="overlay")  # type: ignore[untyped-decorator] # inspect_ai is skipped
def overlay() -> type[ModelAPI]:
    """What `--model overlay/HOME` stands for."""
    return OverlayModel


def _conversation(messages: Sequence[ChatMessage]) -> tuple[str, list[tuple[str, str]], str]:
    """What the system says, the turns so far, and what is said now."""
    instructions: list[str] = []
    history: list[tuple[str, str]] = []
    said: str | None = None
    for message in messages:
        text = _text_of(message)
        if isinstance(message, ChatMessageSystem):
            instructions.append(text)
        elif isinstance(message, ChatMessageUser):
            said = text if said is None else f"{said}\n{text}"
        elif isinstance(message, ChatMessageAssistant):
            if said is None:
                raise ArgumentError(
                    "the task's conversation has an answer before anything was said", "begin it with a user's message"
                )
            history.append((said, text))
            said = None
    if said is None:
        raise ArgumentError("the task's last message isn't from the user", "end its input with a user's message")
    return "\n\n".join(instructions), history, said


def _text_of(message: ChatMessage) -> str:
    if isinstance(message, ChatMessageTool) or (isinstance(message, ChatMessageAssistant) and message.tool_calls):
        raise ArgumentError("an overlay agent calls no tools, and the task's conversation does", "leave them out")
    if not isinstance(message.content, str):
        kinds = sorted({part.type for part in message.content} - {"text", "reasoning"})
        if kinds:
            raise ArgumentError(f"an overlay agent reads text only, and the task shows {', '.join(kinds)}")
    return str(message.text)


def _reply_settings(own: ReplySettings, config: GenerateConfig) -> ReplySettings:
    """The home's way to reply, with what the task asks for in its place."""
    refused = [
        name for name, nothing in _REFUSED.items() if (asked := getattr(config, name)) is not None and asked != nothing
    ]
    if refused:
        raise ArgumentError(
            f"an overlay agent has no part for {', '.join(refused)}", f"a task may set {', '.join(_SAMPLING)} and seed"
        )
    asked = {name: value for name in _SAMPLING if (value := getattr(config, name)) is not None}
    try:
        return type(own)(**{**own.model_dump(), **asked})
    except ValidationError as error:
        first = error.errors()[0]
        raise ArgumentError(f"{first['loc'][0]} is {first['input']}: {first['msg']}", "choose another value") from error


def _output(name: str, found: PresentAnswer, begun: Any) -> ModelOutput:
    """The reply with what led to it: a log then tells what the state was and what it cost."""
    answer, completion = found.answer, found.answer.completion
    read, written = len(completion.prompt_tokens), len(completion.tokens)
    message = ChatMessageAssistant(content=completion.text, model=name, source="generate")
    return ModelOutput(
        model=name,
        choices=[ChatCompletionChoice(message=message, stop_reason=_STOP_REASONS[completion.ended])],
        usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
        metadata={
            "seed": answer.row.seed,
            "temperature": answer.row.sampling.temperature,
            "state_before": dict(begun),
            "state_after": dict(found.lived.state.values),
            "doses": {dose.direction.name: dose.coefficient for dose in answer.row.intervention.doses},
            "volatility_mean": answer.influenced.volatility.mean,
            "recalled": [entry.note.id for entry in found.recalled],
            "frames": [entry.frame.name for entry in found.lived.active],
            "inner_speech": len(found.lived.dialogue.utterances) if found.lived.dialogue else 0,
        },
    )
