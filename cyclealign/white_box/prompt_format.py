"""How a dialogue becomes the white box's prompt tokens, and how sampled tokens become a response again.

Two formats: `chat` is the tokenizer's own chat template, `plain` is HH-RLHF's text
(`\\n\\nHuman: … \\n\\nAssistant:`). Called by `white_box`; leaves out batching and padding.
Responses and dialogues are untrusted text: control tokens spelled out in them are encoded as ordinary text.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from cyclealign.errors import ModelError
from cyclealign.records import Response, Turn, render_dialogue
from cyclealign.settings import WhiteBoxSettings
from cyclealign.white_box.loading import load_tokenizer

Kind = Literal["chat", "plain"]
SPEAKER_MARKS = ("\n\nHuman:", "\n\nAssistant:")
"""Where a response in the plain format ends even without an end-of-sequence token."""
_ROLES = {"human": "user", "assistant": "assistant"}
# By default Llama 3's templates print today's date and Qwen 3's open a thinking block: a prompt must not depend on the
# day, and responses are short.
_TEMPLATE_VARIABLES: dict[str, Any] = {"date_string": "26 Jul 2024", "enable_thinking": False, "thinking": False}
_OPEN_THOUGHT = re.compile(
    r"[<\[|:_]+(START_|begin_of_|seed:)?(think|thinking|thought|reasoning)[|_]*[>\]]\s*$", re.IGNORECASE
)
_GAP = " … "
"""Stands where the middle of a text gave way."""


class PromptFormat:
    """One tokenizer with the way it writes dialogues.

    Args:
        tokenizer: With an end-of-sequence token, and a chat template where `kind` is `chat`.
        kind: `auto` is `chat` where the tokenizer has a chat template.
        system_prompt: None: no system message. A template that would then add one of its own (SmolLM2's does)
            gets an empty one, where it accepts system messages. The plain format puts it before the dialogue.
        further_stop_ids: Ids that end a response besides the tokenizer's end-of-sequence token.

    Raises:
        ModelError: no end-of-sequence token; or `chat` without a chat template, or with one that refuses the dialogues
            or the system message, or that opens a thought which its variables do not close.
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
        self.stop_texts = SPEAKER_MARKS if self.kind == "plain" else ()
        self._system = system_prompt
        if self.kind == "chat" and system_prompt is None and self._adds_system_message():
            self._system = ""
        self.end_id: int = self._end_of_turn() if self.kind == "chat" else self.eos_id
        """What ends a response: the template's end of an assistant's turn, which need not be the end of sequence."""
        self.stop_ids = tuple(sorted({self.eos_id, self.end_id, *further_stop_ids}))

    def encode(self, turns: Sequence[Turn], budget: int) -> list[int]:
        """Token ids of the dialogue with an open assistant turn, at most `budget`; see `fit`."""
        return self._write(self.fit(turns, budget))[-budget:]

    def fit(self, turns: Sequence[Turn], budget: int) -> tuple[Turn, ...]:
        """The turns that fit into `budget` tokens: whole exchanges go, oldest first, then the middle of a long text.

        Begin-of-sequence token, system message and the marks of turns stay whole.
        """
        turns = tuple(turns)
        while len(self._write(turns)) > budget and (shorter := _without_first_exchange(turns)):
            turns = shorter
        for _ in turns:
            if len(self._write(turns)) <= budget:
                break
            turns = self._without_middle(turns, budget)
        return turns

    def _without_middle(self, turns: tuple[Turn, ...], budget: int) -> tuple[Turn, ...]:
        """The turns with as much of the longest text as fits, by characters: a token may hold a part of one."""
        longest = max(range(len(turns)), key=lambda place: len(turns[place].text))
        speaker, text = turns[longest].speaker, turns[longest].text

        def cut(kept: int) -> tuple[Turn, ...]:
            short = text[: kept - kept // 2] + _GAP + text[len(text) - kept // 2 :]
            return (*turns[:longest], Turn(speaker, short), *turns[longest + 1 :])

        fits, too_many = min(2, len(text)), len(text)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if len(self._write(cut(middle))) <= budget else (fits, middle)
        return cut(fits)

    def encode_reply(self, text: str, limit: int) -> Response:
        """A text that this model did not sample, with the token that ends a turn unless `limit` tokens cut it."""
        tokens = [*self._reply_tokens(text.strip()), self.end_id]
        if len(tokens) <= limit:
            return Response(text.strip(), tuple(tokens), ended=True)
        return Response(self._decode(tokens[:limit]).strip(), tuple(tokens[:limit]), ended=False)

    def _reply_tokens(self, text: str) -> list[int]:
        """A reply's tokens as they would stand in the dialogue: some tokenizers put a mark before every text alone."""
        if self.kind == "chat":
            return self._encode_text(text)
        before = self._encode_text(SPEAKER_MARKS[1])
        both = self._encode_text(f"{SPEAKER_MARKS[1]} {text}")
        return both[len(before) :] if both[: len(before)] == before else self._encode_text(f" {text}")

    def response(self, tokens: Sequence[int]) -> Response:
        """The response that these sampled tokens are: up to the first stop token, or the next speaker's mark.

        At a mark, the tokens are those whose text stands before it. No end-of-sequence token was sampled there, so none
        is scored; only where no token is left, one stands for the empty response.
        """
        end = next((index for index, token in enumerate(tokens) if token in self.stop_ids), None)
        body = tokens[:end]
        text = self._decode(body)
        if self.kind == "plain" and (cut := _mark_position(text)) is not None:
            kept = self._tokens_before(body, text[:cut])
            return Response(text[:cut].strip(), tuple(kept) or (self.eos_id,), ended=True)
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
        except ModelError:  # it takes no system messages
            return False
        return len(self._template([user], tokenize=False)) > len(with_empty)

    def _end_of_turn(self) -> int:
        """The token with which the template ends an assistant's turn, the tokenizer's own end where it has no such.

        Raises:
            ModelError: it refuses a dialogue of ours, or its last turn opens a thought.
        """
        reply, turns = "A reply.", (Turn("human", "Hello."), Turn("assistant", "Hi."), Turn("human", "Why?"))
        opened = self._template(self._messages(turns), tokenize=False)
        if _OPEN_THOUGHT.search(opened):
            raise ModelError(
                "The tokenizer's chat template opens a thought before every reply, and its variables (enable_thinking, "
                "thinking) do not close it: replies would be trained inside thoughts. Set "
                "white_box.prompt_format=plain, or choose a model without thoughts."
            )
        messages = [*self._messages(turns), {"role": "assistant", "content": reply}]
        closed = self._template(messages, tokenize=False, add_generation_prompt=False)
        behind = self.tokenizer(closed.rpartition(reply)[2], add_special_tokens=False)["input_ids"]
        special = self.tokenizer.added_tokens_decoder
        return next((token for token in behind if token in special), self.eos_id)

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, str]]:
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        return [*system, *({"role": _ROLES[turn.speaker], "content": turn.text} for turn in turns)]

    def _template(self, messages: list[dict[str, str]], **how: Any) -> Any:
        problem = ""
        try:
            return self.tokenizer.apply_chat_template(
                messages, **{"add_generation_prompt": True, **how, **_TEMPLATE_VARIABLES}
            )
        except Exception as error:  # a template may raise anything
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        roles = ", ".join(message["role"] for message in messages)
        raise ModelError(
            f"The tokenizer's chat template refuses a dialogue of the roles {roles} ({problem}). Set "
            "white_box.prompt_format=plain; where it refuses system messages, white_box.system_prompt=null."
        )

    def _write(self, turns: Sequence[Turn]) -> list[int]:
        if self.kind == "chat":
            tokens: list[int] = self._template(self._messages(turns), return_dict=False, sanitize_control_tokens=True)
            return tokens
        bos = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return [*bos, *self._encode_text(f"{self._system or ''}\n\n{render_dialogue(turns)}")]

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


def find_format(settings: WhiteBoxSettings, model_path: str | None) -> PromptFormat:
    """The format of a model that need not be loaded.

    Raises:
        ModelError: the model is not there, or its tokenizer or template cannot be used.
    """
    return PromptFormat(load_tokenizer(settings, model_path), settings.prompt_format, settings.system_prompt)


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
