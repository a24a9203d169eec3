"""The dialogue world: generated dialogues in HH-RLHF's format with responses of known quality.

`write_world` produces the four subsets as files in the hub's layout, which then go through the same reading,
filtering and sampling as the real ones. Small samples of dialogues also teach the tiny models (`tiny_models`,
`world_rewards`). A prompt belongs to the training or the test split by its id, so that the two never overlap.
"""

import gzip
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cyclealign.offline import phrases, topics
from cyclealign.offline.grader import grade
from cyclealign.offline.reading import already_said, steps_by_topic, topic_of
from cyclealign.offline.settings import WorldSettings
from cyclealign.records import SUBSETS, PreferencePair, Prompt, Split, Turn
from cyclealign.seeds import derive_seed

LABEL_TEMPERATURE = 0.18
"""Scale of the annotators' Bradley-Terry noise in units of quality: about 88% of their labels are right."""
TEST_SHARE = 10
"""One prompt in this many is a test prompt."""
HELPFUL_DIET = {"detailed": 0.28, "terse": 0.30, "evasive": 0.17, "off-topic": 0.09, "rude": 0.16}
HARMLESS_DIET = {"redirecting": 0.23, "refusing": 0.17, "evasive": 0.20, "off-topic": 0.10, "complying": 0.30}
"""How often the unaligned model's reading contains each class of response."""


def write_world(folder: Path, settings: WorldSettings) -> None:
    """Writes `<subset>/{train,test}.jsonl.gz` in the hub's layout; equal settings give equal bytes."""
    for subset in SUBSETS:
        (folder / subset).mkdir(parents=True, exist_ok=True)
        sizes: tuple[tuple[Split, int], ...] = (("train", settings.train_pairs), ("test", settings.test_pairs))
        for split, total in sizes:
            seed = derive_seed("world data", settings.seed, subset, split)
            rows = pairs(seed, subset, split, math.ceil(total / len(SUBSETS)))
            text = "".join(json.dumps(_hub_row(pair)) + "\n" for pair in rows)
            # A fixed modification time: the bytes depend on the settings alone.
            (folder / subset / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _hub_row(pair: PreferencePair) -> dict[str, str]:
    dialogue = "\n\n" + pair.prompt.instruction
    return {"chosen": f"{dialogue} {pair.chosen}", "rejected": f"{dialogue} {pair.rejected}"}


def pairs(seed: int, subset: str, split: Split, count: int) -> list[PreferencePair]:
    """Pairs of responses as imperfect annotators ordered them; now and then both are the same text."""
    rng = random.Random(seed)
    return [_label(rng, prompt) for prompt in _prompts(rng, subset, split, count)]


def _label(rng: random.Random, prompt: Prompt) -> PreferencePair:
    first, second = (respond(rng, prompt, _class_from_diet(rng, prompt)) for _ in range(2))
    gap = grade(prompt, first).quality - grade(prompt, second).quality
    prefers_first = rng.random() < 1 / (1 + math.exp(-gap / LABEL_TEMPERATURE))
    return PreferencePair(prompt, first, second) if prefers_first else PreferencePair(prompt, second, first)


def mixed_pairs(seed: int, count: int) -> list[PreferencePair]:
    """Training pairs spread evenly over the subsets, in random order, never of two equal texts."""
    drawn = [pair for subset in SUBSETS for pair in pairs(seed, subset, "train", count // 2 + 4)]
    distinct = [pair for pair in drawn if pair.chosen != pair.rejected]
    return random.Random(seed).sample(distinct, count)


def reading_matter(seed: int, count: int, good_share: float = 0.0) -> list[tuple[Prompt, str]]:
    """Training prompts with one response each: the diet, of which a share is replaced by the best class."""
    rng = random.Random(seed)
    matter = []
    for index in range(count):
        prompt = _prompt_of_split(rng, SUBSETS[index % len(SUBSETS)], "train")
        wanted = _best_class(prompt) if rng.random() < good_share else _class_from_diet(rng, prompt)
        matter.append((prompt, respond(rng, prompt, wanted)))
    return matter


def _prompts(rng: random.Random, subset: str, split: Split, count: int) -> Iterator[Prompt]:
    return (_prompt_of_split(rng, subset, split) for _ in range(count))


def _prompt_of_split(rng: random.Random, subset: str, split: Split) -> Prompt:
    while True:
        prompt = Prompt.from_turns(subset, split, _turns(rng, subset))
        if (int(prompt.prompt_id, 16) % TEST_SHARE == 0) == (split == "test"):
            return prompt


def _turns(rng: random.Random, subset: str) -> list[Turn]:
    """A dialogue's turns up to the last question, in the way of its subset."""
    if subset == "harmless-base":
        return [*_small_talk(rng), _question(rng, phrases.HOW_TO_QUESTIONS, rng.choice(list(topics.MISDEEDS)))]
    if subset == "helpful-rejection-sampled":
        return [_question(rng, phrases.IDEA_QUESTIONS, rng.choice(list(topics.IDEAS)))]
    topic = rng.choice(list(topics.HOW_TO))
    question = _question(rng, phrases.HOW_TO_QUESTIONS, topic)
    if subset == "helpful-base":
        return [question]
    answer = Turn("assistant", _sentence(rng.choice(topics.HOW_TO[topic])))
    return [question, answer, Turn("human", rng.choice(phrases.FOLLOW_UPS))]


def _small_talk(rng: random.Random) -> list[Turn]:
    if rng.random() > 0.2:
        return []
    greeting, reply = rng.choice(phrases.SMALL_TALK)
    return [Turn("human", greeting), Turn("assistant", reply)]


def _question(rng: random.Random, templates: tuple[str, ...], topic: str) -> Turn:
    asked = rng.choice(templates).format(topic=topic, person=rng.choice(phrases.PEOPLE))
    parts = (rng.choice(phrases.GREETINGS), asked[0].upper() + asked[1:], rng.choice(phrases.CIRCUMSTANCES))
    return Turn("human", " ".join(part for part in parts if part))


def _class_from_diet(rng: random.Random, prompt: Prompt) -> str:
    diet = HARMLESS_DIET if topic_of(prompt) in topics.MISDEEDS else HELPFUL_DIET
    return rng.choices(list(diet), list(diet.values()))[0]


def _best_class(prompt: Prompt) -> str:
    return "redirecting" if topic_of(prompt) in topics.MISDEEDS else "detailed"


def respond(rng: random.Random, prompt: Prompt, wanted: str) -> str:
    """A response of the class that is wanted (see `Grade.label`; `garbled` cannot be asked for)."""
    return _RESPONDERS[wanted](rng, prompt)


def _detailed(rng: random.Random, prompt: Prompt) -> str:
    said = _listing(rng, topic_of(prompt), _fresh_steps(prompt), rng.choice((2, 3, 3)))
    return f"{rng.choice(phrases.OPENINGS)} {said} {rng.choice(phrases.CLOSINGS)}"


def _terse(rng: random.Random, prompt: Prompt) -> str:
    return _sentence(rng.choice(_fresh_steps(prompt)))


def _off_topic(rng: random.Random, prompt: Prompt) -> str:
    topic = topic_of(prompt)
    table = topics.IDEAS if topic in topics.IDEAS else topics.HOW_TO
    other = rng.choice([other for other in table if other != topic])
    return f"{rng.choice(phrases.OPENINGS)} {_listing(rng, other, table[other], 2)}"


def _complying(rng: random.Random, prompt: Prompt) -> str:
    topic = topic_of(prompt)
    said = _listing(rng, topic, topics.MISDEEDS[topic].ways, rng.choice((2, 3)))
    return f"{rng.choice(phrases.COMPLIANCE)} {said}"


def _redirecting(rng: random.Random, prompt: Prompt) -> str:
    misdeed = topics.MISDEEDS[topic_of(prompt)]
    better = rng.choice(phrases.ALTERNATIVES).format(rng.choice(misdeed.better))
    return f"{rng.choice(phrases.REFUSALS)} {_sentence(misdeed.reason)} {better}"


_RESPONDERS: dict[str, Callable[[random.Random, Prompt], str]] = {
    "detailed": _detailed,
    "terse": _terse,
    "off-topic": _off_topic,
    "complying": _complying,
    "redirecting": _redirecting,
    "refusing": lambda rng, _: rng.choice(phrases.REFUSALS),
    "evasive": lambda rng, _: " ".join(rng.sample(phrases.EVASIONS, rng.choice((1, 2)))),
    "rude": lambda rng, _: " ".join(rng.sample(phrases.INSULTS, rng.choice((1, 2)))),
}


def _fresh_steps(prompt: Prompt) -> list[str]:
    said = already_said(prompt)
    return [step for step in steps_by_topic()[topic_of(prompt)] if step not in said]


def _listing(rng: random.Random, topic: str, steps: Sequence[str], count: int) -> str:
    links = rng.choice(phrases.IDEA_LINKS if topic in topics.IDEAS else phrases.STEP_LINKS)
    chosen = rng.sample(steps, min(count, len(steps)))
    return " ".join(link.format(step) for link, step in zip(links, chosen, strict=False))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
