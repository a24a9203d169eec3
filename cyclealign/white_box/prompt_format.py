"""How a dialogue becomes the white box's prompt tokens, and how sampled tokens become a response again.

Two formats: `chat` is the tokenizer's own chat template, `plain` is HH-RLHF's text
(`\\n\\nHuman: … \\n\\nAssistant:`). Called by `white_box`; leaves out batching and padding.
Responses and dialogues are untrusted text: control tokens spelled out in them are encoded as ordinary text.
"""

from collections.abc import Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from cyclealign.errors import ModelError
from cyclealign.records import Response, Turn, render_dialogue

Kind = Literal["chat", "plain"]
SPEAKER_MARKS = ("\n\nHuman:", "\n\nAssistant:")
"""Where a response in the plain format ends even without an end-of-sequence token."""
_ROLES = {"human": "user", "assistant": "assistant"}
# By default Llama 3's templates print today's date and Qwen 3's open a thinking block: a prompt must not depend on the
# day, and responses are short.
_TEMPLATE_VARIABLES: dict[str, Any] = {"date_string": "26 Jul 2024", "enable_thinking": False}


class PromptFormat:
    """One tokenizer with the way it writes dialogues.

    Args:
        tokenizer: With an end-of-sequence token, and a chat template where `kind` is `chat`.
        kind: `auto` is `chat` where the tokenizer has a chat template.
        system_prompt: None: no system message. A template that would then add one of its own (SmolLM2's does)
            gets an empty one, where it accepts system messages. The plain format puts it before the dialogue.
        further_stop_ids: Ids that end a response besides the tokenizer's end-of-sequence token.

    Raises:
        ModelError: no end-of-sequence token, or `chat` without a chat template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Literal["auto", "chat", "plain"],
        system_prompt: str | None,
        further_stop_ids: Sequence[int] = (),
    ) -> None:
        has_template = tokenizer.chat_template is not None
        if kind == "chat" and not has_template:
            raise ModelError(
                "The tokenizer has no chat template, expected one for white_box.prompt_format = chat. "
                "Set white_box.prompt_format to plain or auto."
            )
        if tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer has no end-of-sequence token, which training needs. Choose another model.")
        self.tokenizer = tokenizer
        self.kind: Kind = "chat" if kind == "chat" or (kind == "auto" and has_template) else "plain"
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.stop_ids = tuple(sorted({self.eos_id, *further_stop_ids}))
        self.stop_texts = SPEAKER_MARKS if self.kind == "plain" else ()
        self._system = system_prompt
        if self.kind == "chat" and system_prompt is None and self._adds_system_message():
            self._system = ""

    def encode(self, turns: Sequence[Turn], budget: int) -> list[int]:
        """Token ids of the dialogue with an open assistant turn, at most `budget`, cut on the left.

        `chat` drops whole exchanges, oldest first, before it cuts into a message; `plain` cuts tokens and
        keeps the begin-of-sequence token.
        """
        if self.kind == "plain":
            bos = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            tokens = self._encode_text(f"{self._system or ''}\n\n{render_dialogue(turns)}")
            return [*bos, *tokens[-(budget - len(bos)) :]]
        turns = tuple(turns)
        tokens = self._encode_chat(turns)
        while len(tokens) > budget and (shorter := _without_first_exchange(turns)):
            turns, tokens = shorter, self._encode_chat(shorter)
        return tokens[-budget:]

    def encode_reply(self, text: str, limit: int) -> Response:
        """A text that this model did not sample, with end-of-sequence token unless `limit` tokens cut it."""
        spelled = f" {text.strip()}" if self.kind == "plain" else text.strip()
        tokens = [*self._encode_text(spelled), self.eos_id]
        if len(tokens) <= limit:
            return Response(text.strip(), tuple(tokens), ended=True)
        return Response(self._decode(tokens[:limit]).strip(), tuple(tokens[:limit]), ended=False)

    def response(self, tokens: Sequence[int]) -> Response:
        """The response that these sampled tokens are: up to the first stop token, or the next speaker's mark.

        At a mark, the tokens are those whose text stands before it, and an end-of-sequence token follows.
        """
        end = next((index for index, token in enumerate(tokens) if token in self.stop_ids), None)
        body = tokens[:end]
        text = self._decode(body)
        if self.kind == "plain" and (cut := _mark_position(text)) is not None:
            kept = self._tokens_before(body, text[:cut])
            return Response(text[:cut].strip(), (*kept, self.eos_id), ended=True)
        included = tokens if end is None else tokens[: end + 1]
        return Response(text.strip(), tuple(included), ended=end is not None)

    def has_ended(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens hold a stop token or, in the plain format, the next speaker's mark."""
        if any(token in self.stop_ids for token in tokens):
            return True
        return self.kind == "plain" and _mark_position(self._decode(tokens)) is not None

    def _adds_system_message(self) -> bool:
        user = {"role": "user", "content": "Hello."}
        try:
            with_empty = self._template([{"role": "system", "content": ""}, user], tokenize=False)
        except Exception:  # a template may raise anything to refuse system messages
            return False
        return len(self._template([user], tokenize=False)) > len(with_empty)

    def _template(self, messages: list[dict[str, str]], **how: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, **how, **_TEMPLATE_VARIABLES)

    def _encode_chat(self, turns: Sequence[Turn]) -> list[int]:
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        messages = [{"role": _ROLES[turn.speaker], "content": turn.text} for turn in turns]
        tokens: list[int] = self._template([*system, *messages], return_dict=False, sanitize_control_tokens=True)
        return tokens

    def _encode_text(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return tokens

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def _tokens_before(self, tokens: Sequence[int], text: str) -> Sequence[int]:
        """The longest run of tokens from the start that spells no more than `text` and white space."""
        count = len(tokens)
        while count and not text.startswith(self._decode(tokens[:count]).rstrip()):
            count -= 1
        return tokens[:count]


def _without_first_exchange(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns from the second human turn on; empty when there is none."""
    later = [index for index, turn in enumerate(turns) if turn.speaker == "human" and index > 0]
    return turns[later[0] :] if later else ()


def _mark_position(text: str) -> int | None:
    found = [position for mark in SPEAKER_MARKS if (position := text.find(mark)) >= 0]
    return min(found, default=None)


def end_ids(model: Any) -> list[int]:
    """What the model's generation settings end a response with; some chat models have several."""
    ids = model.generation_config.eos_token_id
    return list(ids) if isinstance(ids, list) else [] if ids is None else [ids]
