"""Open-Assistant's rule for HH-RLHF, row by row in plain Python: what the columnar filter is compared with.

Written from the rule's description: paragraphs that start with a name are turns, others are dropped,
consecutive turns of one speaker are joined with a line break; a pair stays when its chosen dialogue has an
Assistant turn, both have the same number of turns, and both begin with Human. It is part of the loop in
`benchmarks.plain_loop`, and the oracle of the filter's tests.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Turns = list[tuple[str, str]]


def turns_of(text: str) -> Turns:
    """The turns of a dialogue, (speaker, text)."""
    turns: list[tuple[str, list[str]]] = []
    for paragraph in text.split("\n\n"):
        for name in ("Human", "Assistant"):
            if paragraph.startswith(f"{name}:"):
                message = paragraph[len(name) + 1 :].strip()
                if turns and turns[-1][0] == name.lower():
                    turns[-1][1].append(message)
                else:
                    turns.append((name.lower(), [message]))
    return [(speaker, "\n".join(messages).strip()) for speaker, messages in turns]


def keeps(chosen: str, rejected: str) -> bool:
    """Whether a pair stays."""
    first, second = turns_of(chosen), turns_of(rejected)
    return (
        any(speaker == "assistant" for speaker, _ in first)
        and len(first) == len(second)
        and first[0][0] == second[0][0] == "human"
    )


def write_files(folder: Path, files: Mapping[str, Sequence[object]]) -> Path:
    """Write rows as `<subset>/<split>.jsonl.gz`; pairs become objects, other values stay as they are."""
    for name, rows in files.items():
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            for row in rows:
                value = {"chosen": row[0], "rejected": row[1]} if isinstance(row, tuple) else row
                file.write(json.dumps(value) + "\n")
    return folder


def read_files(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Subset, split, chosen, rejected of every row of files in the hub's layout."""
    for path in sorted(folder.glob("*/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield path.parent.name, path.name.split(".")[0], row["chosen"], row["rejected"]
