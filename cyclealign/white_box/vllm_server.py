"""Sampling by a vLLM server: the white box's prompts as token ids go out at once, sampled token ids come back.

The server (`vllm serve MODEL --enable-lora`) lives in an environment of its own, because its wheels and this
project's do not agree on transformers and fastapi. It holds the base model; the adapter reaches it through a folder
whenever it has changed. A check on one response shows that both compute with the same weights. Scoring and training
stay in torch. Called by `tasks.cycle.sampling_server`, never on a rank other than 0. Leaves out starting the server.
"""

import asyncio
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final, TypeGuard

import httpx2

from cyclealign.black_box.failures import AGAIN, WORDS_SHOWN, blot, key_in
from cyclealign.errors import EndpointRefused, ModelError
from cyclealign.records import Prompt, Response
from cyclealign.settings import SamplingSettings, VllmSettings
from cyclealign.white_box.prompt_format import PromptFormat
from cyclealign.white_box.white_box import WhiteBox

CONNECT_S: Final = 10.0
LARGEST_GAP: Final = 0.25
"""Nats a token, between the server's log-probability of its response and ours; half precision stays far below."""
LARGEST_SEED: Final = 2**62
"""The server adds a response's number to the seed, and both have to fit into 64 bits with a sign."""
SERVE: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-lora-rank RANK"


class VllmServer:
    """Samples like `WhiteBox.sample` when it is called; one of them belongs to one white box.

    What a prompt gets depends on its seed, and in the last bits of the probabilities on the prompts beside it.
    """

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._served = self._weights = ""  # the name of the adapter, or the base model, on the server; its digest
        self._withdraw: Callable[[], Any] = lambda: None

    def __call__(
        self,
        white_box: WhiteBox,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        responses: int,
        sampling: SamplingSettings,
    ) -> list[list[Response]]:
        """`responses` responses to each prompt under the white box's current weights.

        Raises:
            EndpointRefused: the server cannot be reached, refuses the key, or stops half-way.
            ModelError: it serves another model or no adapters, or answers without token ids.
        """
        count = responses if sampling.temperature > 0 else 1  # the server refuses to be greedy more than once
        fresh, common = self._bring(white_box), self._common(white_box.prompt_format, count, sampling)
        encoded = [white_box.encode_prompt(prompt, sampling.max_new_tokens) for prompt in prompts]
        asked = [
            {**common, "model": self._served, "prompt": tokens, "seed": seed % LARGEST_SEED}
            for tokens, seed in zip(encoded, seeds, strict=True)
        ]
        answers = [self._choices(answer, count) for answer in self._send("POST", "completions", *asked)]
        if fresh:
            drawn = zip(prompts, encoded, answers, strict=True)
            self._compare(white_box, [(*one, choice) for *one, choices in drawn for choice in choices])
        copies = responses // count
        return [[white_box.prompt_format.response(one["token_ids"]) for one in answer] * copies for answer in answers]

    def require(self, model: str, max_length: int) -> str:
        """The name of the base model on the server: `model`, as far as names tell, for `max_length` tokens.

        Raises:
            EndpointRefused: the server cannot be reached or refuses the key.
            ModelError: it serves another model, or one for shorter texts.
        """
        [models] = self._send("GET", "models", None)
        listed = self._json(models).get("data")
        cards = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        base = [one for one in cards if not one.get("parent")]
        wanted = PurePath(model).name
        named = [one for one in base if wanted in {PurePath(str(one.get(key))).name for key in ("id", "root")}]
        if not named:
            found = ", ".join(str(one.get("root") or one.get("id")) for one in base) or "no model"
            raise ModelError(
                f"The vLLM server at {self._settings.base_url} serves {found}, expected {model}. Serve that one "
                f"({SERVE}), or name its address: white_box.vllm.base_url."
            )
        length = named[0].get("max_model_len")
        if isinstance(length, int) and length < max_length:
            raise ModelError(
                f"The vLLM server takes {length} tokens for prompt and response, expected white_box.max_length = "
                f"{max_length} or more. Start it with --max-model-len {max_length}."
            )
        return str(named[0].get("id"))

    def _bring(self, white_box: WhiteBox) -> bool:
        """Have the server hold the white box's weights; whether they are others than at the last call."""
        described = white_box.description
        weights = white_box.weights_sha256() if described["lora"] else "base"
        if weights == self._weights:
            return False
        served = base = self.require(described["model"], described["max_length"])
        withdraw = self._withdraw
        if described["lora"]:
            folder = self._new_folder(weights)
            served = folder.name
            self._withdraw = weakref.finalize(self, _withdraw, self._settings, folder)
            white_box.save_adapter(folder)
            adapter = {"lora_name": folder.name, "lora_path": str(folder)}
            [response] = self._send("POST", "load_lora_adapter", adapter)
            if not response.is_success:
                raise ModelError(
                    f"The vLLM server did not load the adapter over {base}: {self._words(response)}. Expected one that "
                    f"was started for it ({SERVE}) and sees {folder.parent}: white_box.vllm.adapter_folder."
                )
        withdraw()
        self._served, self._weights = served, weights
        return True

    def _new_folder(self, weights: str) -> Path:
        """A folder for an adapter, named after its weights and like no other, which the server may read."""
        parent = self._settings.adapter_folder
        try:
            if parent is not None:
                Path(parent).mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{weights}-", dir=parent))
            folder.chmod(0o755)  # the server may run under another user
            return folder.resolve()
        except OSError as error:
            raise ModelError(
                f"Cannot write an adapter for the vLLM server to {parent or tempfile.gettempdir()}: {error.strerror}. "
                "Expected a folder that this process may write to and the server may read: "
                "white_box.vllm.adapter_folder."
            ) from None

    def _common(self, form: PromptFormat, count: int, sampling: SamplingSettings) -> dict[str, Any]:
        """What all requests of a call say: also what the server would else take from the model's files."""
        return {
            "n": count,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": list(form.stop_ids),
            "stop": list(form.stop_texts),
            "ignore_eos": True,  # the stop tokens above, and no others
            "top_k": 0,
            "min_p": 0,
            "repetition_penalty": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "return_token_ids": True,
            "logprobs": 0,  # of the sampled tokens alone
        }

    def _send(self, method: str, path: str, *bodies: dict[str, Any] | None) -> list[httpx2.Response]:
        """Requests that go out at once.

        Raises:
            EndpointRefused: the server cannot be reached or refuses the key.
        """

        async def together() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(**_connection(self._settings)) as client:
                return await asyncio.gather(*(client.request(method, path, json=body) for body in bodies))

        where, failure = f"The vLLM server at {self._settings.base_url}", None
        try:
            responses = asyncio.run(together())
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            failure = EndpointRefused(
                f"{where} does not answer ({type(error).__name__}). Expected one at white_box.vllm.base_url within "
                f"white_box.vllm.timeout_s: start it ({SERVE}). {AGAIN}",
                kind="connection",
            )
        if failure is not None:
            raise failure  # here: the context of an error raised above would hold the request with its key
        for status in (one.status_code for one in responses if one.status_code in (401, 403)):
            raise EndpointRefused(
                f"{where} refuses the key (HTTP {status}). Put the one that it was started with into "
                f"{self._settings.api_key_env}. {AGAIN}",
                kind="key",
                http_status=status,
            )
        return responses

    def _json(self, response: httpx2.Response) -> dict[str, Any]:
        """The answer to a request that has to succeed."""
        with suppress(ValueError):
            body = response.json()
            if response.is_success and isinstance(body, dict):
                return body
        words = f"The vLLM server at {self._settings.base_url} answers: {self._words(response)}."
        if response.status_code >= 500:
            raise EndpointRefused(f"{words} Look at its log. {AGAIN}", kind="server_error")
        raise ModelError(
            f"{words} Expected a vLLM server's answer; was it restarted, is the address its own (…/v1)? {AGAIN}"
        )

    def _choices(self, response: httpx2.Response, count: int) -> list[dict[str, Any]]:
        """As many responses as were asked for, whole and with their token ids."""
        choices = self._json(response).get("choices")
        if not isinstance(choices, list) or len(choices) != count or not all(map(_has_tokens, choices)):
            raise ModelError(
                f"The vLLM server at {self._settings.base_url} did not answer with {count} responses as token ids. "
                "Expected `token_ids` in each choice of /v1/completions: vLLM 0.32 has them. Upgrade it."
            )
        broken = [one for one in choices if one.get("finish_reason") not in ("stop", "length")]
        if broken:
            raise EndpointRefused(
                f"The vLLM server stopped in the middle of a response ({broken[0].get('finish_reason')}). "
                f"Look at its log. {AGAIN}",
                kind="server_error",
            )
        return choices

    def _compare(self, white_box: WhiteBox, drawn: Sequence[Any]) -> None:
        """A name says little of the weights: hold the longest response's log-probability against our own.

        Only prompts that are scored as they were sampled from will do: scoring may leave them less room.

        Raises:
            ModelError: the server computes with other weights.
        """
        alike = [
            (prompt, tuple(choice["token_ids"]), choice)
            for prompt, tokens, choice in drawn
            if white_box.row(prompt, [choice["token_ids"]])[0] == tokens
        ]
        if not alike:
            return
        prompt, tokens, choice = max(alike, key=lambda one: len(one[1]))
        found = (choice.get("logprobs") or {}).get("token_logprobs") or []
        [[ours]] = white_box.log_probabilities([(prompt, [tokens])])
        theirs = sum(found) / len(found) if found else math.nan
        if not abs(theirs - ours.mean) <= LARGEST_GAP:
            raise ModelError(
                f"The vLLM server and the white box disagree about one response: {theirs:.3f} and {ours.mean:.3f} nats "
                f"a token, expected a difference below {LARGEST_GAP}. It serves other weights under the name of "
                f"{white_box.description['model']}, or not in white_box.dtype: serve the same files."
            )

    def _words(self, response: httpx2.Response) -> str:
        """What the server said, one printable line without the key."""
        line = " ".join(blot(response.text, key_in(self._settings.api_key_env)).split())
        printable = "".join(character for character in line if character.isprintable())
        return f"HTTP {response.status_code} {printable[:WORDS_SHOWN]}"


def _connection(settings: VllmSettings) -> dict[str, Any]:
    """The arguments of every client."""
    key = key_in(settings.api_key_env)
    return {
        "base_url": settings.base_url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx2.Timeout(settings.timeout_s, connect=CONNECT_S, pool=None),
        "limits": httpx2.Limits(max_connections=None),
    }


def _withdraw(settings: VllmSettings, folder: Path) -> None:
    """Have the server forget an adapter, where it still listens, and remove its folder."""
    with suppress(httpx2.HTTPError, EndpointRefused), httpx2.Client(**_connection(settings)) as client:
        client.post("unload_lora_adapter", json={"lora_name": folder.name}, timeout=CONNECT_S)
    shutil.rmtree(folder, ignore_errors=True)


def _has_tokens(choice: object) -> TypeGuard[dict[str, Any]]:
    tokens = choice.get("token_ids") if isinstance(choice, dict) else None
    return isinstance(tokens, list) and bool(tokens) and all(isinstance(one, int) for one in tokens)
