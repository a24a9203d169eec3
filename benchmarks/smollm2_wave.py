"""A wave on SmolLM2-135M against transformers' own way: sampling, scoring and one optimizer step on all of its prompts.

Four prompts (the shipped profile's eight would take 11 GiB the other way) of 128 tokens, three candidates and a rewrite
of 48 tokens each, a LoRA adapter on every linear layer, float32. Ours is the white box: it reads a prompt once for all
its responses, computes logits where they are needed, and scores in a pass of its own. The other way copies the prompt
for each response: `generate` with `num_return_sequences` (cached keys and values, no gradients, evaluation mode, the
adapter merged, as ours), then one padded batch of full sequences, which gives the scores and is trained on, one pass
fewer: with logits of every position, as published loops have them, and in a second row with transformers'
`logits_to_keep`. Prompts are equally long, which spares it the padding. Neither stops early, so the ratio of times is
that of tokens per second. A first wave, decoded greedily, has the same tokens, scores and loss on both sides. The
weights are the model's own where `make smollm2` has put them, otherwise random ones of its shape.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import made_up
from benchmarks.measuring import Row, speedups, timed_in_turn
from benchmarks.published_steps import NEVER
from cyclealign.method.objectives import rank_loss, sft_loss
from cyclealign.offline.smollm2 import default_folder
from cyclealign.records import Prompt, TrainingExample
from cyclealign.settings import LoraSettings, MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box import weights
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.sampling import decode, draw_uniforms
from cyclealign.white_box.white_box import WhiteBox

REPEATS = 3
PROMPTS, CANDIDATES = 4, 3
PROMPT_TOKENS, RESPONSE_TOKENS = 128, 48
SHAPE: Mapping[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8_192,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}
PREFERENCE = (CANDIDATES, *range(CANDIDATES))
"""The rewrite first, then the candidates."""
SAMPLING = SamplingSettings(temperature=1.0, top_p=0.95, max_new_tokens=RESPONSE_TOKENS)
GREEDY = SamplingSettings(temperature=0, max_new_tokens=RESPONSE_TOKENS)


def rows(repeats: int = REPEATS, shape: Mapping[str, Any] | None = None) -> list[Row]:
    """How many times more tokens per second."""
    found = []
    with model_folder(shape) as (folder, origin):
        ours, theirs = Ours(folder), Theirs(folder)
        for theirs.lean in (False, True):
            mine, others = ours.run(GREEDY), theirs.run(GREEDY)
            assert mine.tokens == others.tokens
            torch.testing.assert_close(mine.scores, others.scores, rtol=1e-3, atol=0)
            torch.testing.assert_close(mine.loss, others.loss, rtol=1e-3, atol=0)
            pairs = timed_in_turn(lambda: ours.run(SAMPLING), lambda: theirs.run(SAMPLING), repeats)
            speeds = [PROMPTS * CANDIDATES * RESPONSE_TOKENS / median(side) for side in zip(*pairs, strict=True)]
            note = (
                f"{speeds[0]:.0f} against {speeds[1]:.0f} sampled tokens per second, sampling, scoring and training "
                f"together; {PROMPTS} prompts of {PROMPT_TOKENS} + {CANDIDATES}·{RESPONSE_TOKENS} tokens, {origin} "
                f"weights, {made_up.where(ours.box.model)}"
            )
            name, lean = "a wave on SmolLM2-135M against transformers' own way", ", logits of the responses alone"
            bar = 1.0 if theirs.lean else 1.5
            found.append(Row(name + lean * theirs.lean, speedups(pairs), note=note, at_least=bar))
    return found


@contextmanager
def model_folder(shape: Mapping[str, Any] | None) -> Iterator[tuple[Path, str]]:
    """Where the model is, and whether its weights are `pretrained` or `random`; of a given shape they are random."""
    if shape is None and default_folder().is_dir():
        yield default_folder(), "pretrained"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield made_up.save(Path(folder), shape or SHAPE), "random"


class Wave(NamedTuple):
    """What a side made of the prompts."""

    tokens: list[list[int]]
    """Of the candidates, prompt by prompt."""
    scores: Tensor
    """log P of the candidates, nats [prompts · candidates]."""
    loss: Tensor


class Side:
    """The model under a new adapter, and the wave's prompts and rewrites, which are the same on both sides."""

    def __init__(self, folder: Path) -> None:
        settings = WhiteBoxSettings(
            model=str(folder),
            dtype="float32",
            max_length=PROMPT_TOKENS + RESPONSE_TOKENS,
            lora=LoraSettings(rank=8, alpha=16),
            sampling=SAMPLING,
        )
        training = TrainingSettings(learning_rate=1e-3, prompts_per_optimizer_step=PROMPTS, wave=PROMPTS)
        self.box = WhiteBox.load(Recipe(settings, training, MethodSettings(candidates=CANDIDATES), seed=0))
        vocabulary = len(self.box.prompt_format.tokenizer)
        # twice as many words as fit: the white box cuts all prompts to the same length
        self.prompts: list[Prompt] = [made_up.prompt(vocabulary, 2 * PROMPT_TOKENS, n) for n in range(PROMPTS)]
        self.encoded = [self.box.encode_prompt(prompt, RESPONSE_TOKENS) for prompt in self.prompts]
        self.rewrites = [made_up.tokens(vocabulary, RESPONSE_TOKENS, "rewrite", n) for n in range(PROMPTS)]


class Ours(Side):
    """The white box, as the cycle calls it; only that nothing ends a response early."""

    def run(self, sampling: SamplingSettings) -> Wave:
        """Sample, score, take a step."""
        model = self.box.model.eval()
        uniforms = draw_uniforms(range(PROMPTS), CANDIDATES, RESPONSE_TOKENS)
        with weights.merged_adapter(model):
            tokens = decode(model, self.encoded, uniforms, sampling, NEVER)
        drawn = [[tuple(one) for one in tokens[i * CANDIDATES : (i + 1) * CANDIDATES]] for i in range(PROMPTS)]
        scores = self.box.log_probabilities(list(zip(self.prompts, drawn, strict=True)))
        report = self.box.optimize(
            [
                TrainingExample(prompt, (*group, tuple(rewrite)), PREFERENCE, CANDIDATES)
                for prompt, group, rewrite in zip(self.prompts, drawn, self.rewrites, strict=True)
            ]
        )
        return Wave(tokens, torch.tensor([one.total for group in scores for one in group]), torch.tensor(report.loss))


class Theirs(Side):
    """The same with `generate` and one padded batch, on the network of a white box."""

    lean = False
    """Whether logits are computed for the responses alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._model = self.box.model
        self._trained = [one for one in self._model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=1e-3, weight_decay=0.0)
        self._prompts = torch.tensor(self.encoded, device=next(self._model.parameters()).device)

    def run(self, sampling: SamplingSettings) -> Wave:
        """Sample, then score and train on the same log-probabilities."""
        tokens = self._generated(sampling)
        rewrites = torch.tensor(self.rewrites, device=tokens.device)
        totals = self._log_probabilities(torch.cat([tokens.view(PROMPTS, CANDIDATES, -1), rewrites[:, None]], 1))
        losses = [
            rank_loss("pro", p[list(PREFERENCE)]) + (CANDIDATES - 1) ** 2 * sft_loss(p[CANDIDATES])
            for p in totals / RESPONSE_TOKENS
        ]
        loss = torch.stack(losses).mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return Wave(tokens.tolist(), totals[:, :CANDIDATES].flatten().detach().cpu(), loss.detach().cpu())

    @torch.no_grad()
    def _generated(self, sampling: SamplingSettings) -> Tensor:
        """Token ids [prompts · candidates, T]."""
        how: dict[str, Any] = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        how |= {"top_k": 0, "num_return_sequences": CANDIDATES}
        prompts = self._prompts
        if sampling.temperature == 0:
            how, prompts = {"do_sample": False}, prompts.repeat_interleave(CANDIDATES, 0)
        self._model.eval()
        self._model.merge_adapter()
        how |= {"max_new_tokens": sampling.max_new_tokens, "eos_token_id": None, "pad_token_id": 0}
        found = self._model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), **how)
        self._model.unmerge_adapter()
        generated: Tensor = found[:, prompts.shape[1] :]
        return generated

    def _log_probabilities(self, responses: Tensor) -> Tensor:
        """log P [prompts, R] of responses [prompts, R, T], with gradients."""
        count, length = responses.shape[1:]
        ids = torch.cat([self._prompts.repeat_interleave(count, 0), responses.flatten(0, 1)], 1)
        self._model.train()
        kept = length + 1 if self.lean else 0
        logits = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=kept
        ).logits
        values = torch.log_softmax(logits[:, -length - 1 : -1], -1)
        totals: Tensor = values.gather(-1, responses.flatten(0, 1)[..., None])[..., 0].sum(-1).view(-1, count)
        return totals
