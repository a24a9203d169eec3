"""A server on loopback that speaks as `vllm serve MODEL --enable-lora` 0.32 does, and really samples.

It loads the model and each adapter from their folders on request and samples with the project's own decoding, so that
its answers depend on what was sent; they have the real server's fields as far as the project reads them. `fault` names
what goes wrong.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cyclealign.settings import SamplingSettings, WhiteBoxSettings
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms
from cyclealign.white_box.white_box import WhiteBox


@dataclass
class Standin:
    """The application, what it was asked, and its address once it runs."""

    model: Callable[[], Path]
    """The folder that it serves; called when it is needed."""
    root: str | None = None
    """What it claims to serve, where that is not so."""
    max_model_len: int = 256
    key: str | None = None
    fault: str = ""
    together: int = 1
    """Requests for responses that have to be there before the first one is answered."""
    lives: int = 10**9
    """Requests for responses until it cuts off every further one."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of requests for responses."""
    loaded: dict[str, Path] = field(default_factory=dict)
    """The adapters it has now."""
    others: frozenset[str] = frozenset()
    """Adapters that a test is not about: it began with them."""
    ever_loaded: list[str] = field(default_factory=list)
    url: str = ""
    _boxes: dict[str, WhiteBox] = field(default_factory=dict)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base(self) -> str:
        """The name of the base model: the path, as with vLLM."""
        return self.root or str(self.model())

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    def box(self, name: str) -> WhiteBox:
        """The model as it came, or under an adapter that was loaded."""
        if name not in self._boxes:
            here = {"model": str(self.model()), "dtype": "float32", "device": "cpu", "max_length": 16}
            settings = WhiteBoxSettings.model_validate({**here, "sampling": {"max_new_tokens": 8}})
            self._boxes[name] = WhiteBox.load_for_inference(settings, adapter=self.loaded.get(name))
        return self._boxes[name]

    async def _list(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        base = {"id": self.base, "root": self.base, "parent": None, "max_model_len": self.max_model_len}
        loaded = [{"id": name, "root": str(path), "parent": self.base} for name, path in self.loaded.items()]
        return JSONResponse({"object": "list", "data": [*loaded, base]})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if self.fault == "no runtime updating":
            return JSONResponse({"detail": "Not Found"}, 404)
        if self.fault == "no lora":
            return _error("LoRA is not enabled. Use --enable-lora to enable LoRA.", 500)
        if name in self.loaded or not (folder / "adapter_config.json").is_file():
            return _error(f"Loading lora {name} failed: already loaded, or no adapter found for {folder}", 400)
        self.loaded[name] = folder
        self.ever_loaded.append(name)
        self.box(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.loaded.pop(name, None) is None:
            return _error(f"The lora adapter '{name}' cannot be found.", 404)
        del self._boxes[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        if len(self.asked) >= self.together:
            self.arrival.set()
        await asyncio.wait_for(self.arrival.wait(), timeout=10)
        if len(self.asked) > self.lives or self.fault == "cut off":
            request._receive.__self__.transport.abort()  # type: ignore[attr-defined]
        if self.fault == "dead":
            return _error("EngineCore encountered an issue.", 500)
        if body["model"] not in (self.base, *self.loaded):
            return _error(f"The model `{body['model']}` does not exist.", 404)
        if body["temperature"] == 0 and body["n"] > 1:
            return _error(f"n must be 1 when using greedy sampling, got {body['n']}.", 400)
        return JSONResponse({"object": "text_completion", "choices": self._choices(body)})

    def _choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        drawn = {"temperature": body["temperature"], "top_p": body["top_p"], "max_new_tokens": body["max_tokens"]}
        sampling, box, prompt = SamplingSettings.model_validate(drawn), self.box(body["model"]), body["prompt"]
        ends = Ends(tuple(body["stop_token_ids"]), lambda tokens: _spelled(box, tokens, body["stop"]))
        uniforms = draw_uniforms([body["seed"]], body["n"], sampling.max_new_tokens)
        box.model.eval()
        sampled = decode(box.model, [prompt], uniforms, sampling, ends)
        wanted = body["n"] - (self.fault == "too few")
        return [self._choice(box, prompt, tokens, body) for tokens in sampled][:wanted]

    def _choice(self, box: WhiteBox, prompt: list[int], tokens: list[int], body: dict[str, Any]) -> dict[str, Any]:
        stopped = tokens[-1] in body["stop_token_ids"] or _spelled(box, tokens, body["stop"])
        with torch.no_grad():
            logits = box.model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()
        return {
            "text": "",
            "token_ids": None if self.fault == "no token ids" else tokens,
            "finish_reason": "abort" if self.fault == "abort" else "stop" if stopped else "length",
            "logprobs": {"token_logprobs": logprobs},
        }


def _spelled(box: WhiteBox, tokens: Sequence[int], texts: Sequence[str]) -> bool:
    text = box.prompt_format.tokenizer.decode(list(tokens), skip_special_tokens=True)
    return any(one in text for one in texts)


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": {"message": message, "type": "", "param": None, "code": status}}, status)
