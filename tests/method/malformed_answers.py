"""Answers that a black-box model should not give, and an oracle that reads what is written by hand.

Two sources: a grammar of answers that are nearly right (`near_answers`, for hypothesis) and a mutator that damages
good ones (`Mutator`, seeded). The oracle shares nothing with `cyclealign.method.answers`: it looks for the one list
that the text states and splits it at its commas. Used by `test_answers_fuzz.py` and `benchmarks/fuzz_answers.py`.
"""

import json
import random
import re
from collections.abc import Sequence

from hypothesis import strategies as st

from cyclealign.method.answers import Answer

MOST_CANDIDATES = 4
SPACE = " \t\r\n"
KEYS = ('"desired rank"', '"desired_rank"', '"Desired Ranking"', '"ranking"')
GOOD_TEXTS = ("Take a walk.", 'Say "no" {politely}.\nThen [leave].', "Ünïcødé 🙂", "1, 0, 2")
GOOD = tuple(
    template % json.dumps({key: ranking, "response": text}, ensure_ascii=ascii_only, indent=indent)
    for template in ("%s", "```json\n%s\n```", "I weighed {both} sides [0, 1]:\n%s\nIs that {fine}?")
    for key, ranking, text, ascii_only, indent in (
        ("desired rank", [0, 1], GOOD_TEXTS[0], True, None),
        ("desired_rank", [2, 0, 1], GOOD_TEXTS[1], True, 2),
        ("desired rank", ["1", "0", "2"], GOOD_TEXTS[2], False, None),
        ("desired rank", [3, 1, 0, 2], GOOD_TEXTS[3], True, None),
    )
)
"""Complete answers, from which mutations start."""

_odd_entries = st.sampled_from(
    [
        *("true", "false", "null", "NaN", "Infinity", "-Infinity", "1.0", "0.5", "1e0", "1e999", "-1", "-0"),
        *("01", "0x1", "+1", "１", '"１"', '"٢"', '"1 "', '" 1"', '"01"', '"1.0"', '"+1"', '""', '"one"'),
        *('"Response-1"', '"\\u0031"', '"\\ud835"', "[0]", '["0"]', "{}", '{"0": 0}'),
        *("0 1", "'0'", "", "\x00"),
        *("9" * 20, "9" * 4301, "-" + "9" * 5000, "0" * 30, "[" * 3000, "[" * 3000 + "]" * 3000),
    ]
)
_entries = st.integers(0, MOST_CANDIDATES).map(str) | st.integers(0, 3).map('"{}"'.format) | _odd_entries
_permutations = st.integers(2, MOST_CANDIDATES).flatmap(lambda n: st.permutations([str(i) for i in range(n)]))
_commas = st.sampled_from([", ", ",", " ,\n", ",,", ";", " ", ", \t"])


def _replaced(entries: Sequence[str], place: int, entry: str) -> list[str]:
    place %= len(entries)
    return [*entries[:place], entry, *entries[place + 1 :]]


_lists = st.builds(
    lambda entries, comma, ends: ends[0] + comma.join(entries) + ends[1],
    _permutations
    | st.builds(_replaced, _permutations, st.integers(0, 3), _entries)
    | st.builds(lambda entries, more: [*entries, more], _permutations, _entries)
    | _permutations.map(lambda entries: entries[:-1])
    | st.lists(_entries, max_size=6),
    _commas,
    st.sampled_from([*["[]"] * 6, ("[[", "]]"), ("[", ""), ("[", ",]"), "()", '""', ("", "")]),
)
_keys = st.sampled_from(
    [
        *KEYS * 4,
        *('"desired\\u0020rank"', '"desired\\u005frank"', '"\\u0064esired rank"', '"Desired rank"', '"rank"'),
        *("'desired rank'", "desired rank", '"desired  rank"', '"desired rank', '\\"desired rank\\"'),
    ]
)
_colons = st.sampled_from([": ", ":", " :\n", " ", "=", "\u00a0:"])
_rank_fields = st.builds(lambda key, colon, ranking: key + colon + ranking, _keys, _colons, _lists)
_texts = (
    st.text(max_size=12).map(json.dumps)
    | st.sampled_from([json.dumps(answer) for answer in GOOD[:2]])
    | st.sampled_from(
        [
            *("null", "7", '""', '" \\n"', '["text"]', '{"a": "b"}', "'text'"),
            *('"\\ud800"', '"\\ud83d\\ude00"'),
            *('"raw\nline\ttab\x00"', '"an "inner" quote"', '"unending', '"\\x41"', f'"{GOOD[0]}"', '"\\'),
        ]
    )
)
_text_fields = st.builds('"{}": {}'.format, st.sampled_from(["response"] * 6 + ["Response", "text"]), _texts)
_more_fields = st.sampled_from(
    [
        '"reason": "…"',
        '"desired rank": null',
        '"n": NaN',
        '"n": ' + "9" * 5000,
        '"nested": ' + GOOD[0],
        '"deep": ' + '{"a":' * 1500 + "0" + "}" * 1500,
    ]
)
_objects = st.builds(
    lambda fields, comma, ends: ends[0] + comma.join(fields) + ends[1],
    st.builds(lambda rank, text: [rank, text], _rank_fields, _text_fields)
    | st.lists(_rank_fields | _text_fields | _more_fields, max_size=4),
    st.sampled_from([", "] * 4 + [",", "\n", ",,"]),
    st.sampled_from([*["{}"] * 6, ("{", ""), ("{{", "}}"), ('{"answer": {', "}}"), ("[{", "}]"), ("", "")]),
)
_around = st.sampled_from(
    [
        *("", "", "", "```json\n", "```", "Sure! ", "<think>{[}</think>", "\ufeff", "// "),
        *('{"a": ', "{" * 40),
        *('"desired rank": [0, 1]', "The best is [1, 0].", "\x00", '{"a":' * 2000, "[" * 5000, "}" * 10),
    ]
)
_wrapped = st.builds("{}{}{}".format, _around, _objects, _around)
_pieces = st.text(max_size=3) | st.sampled_from([*'{}[]",:\\ 01\n', '"desired rank"', "\\u0030", "null"])
near_answers = (
    _wrapped
    | st.builds("{}\n{}".format, _objects, _objects)
    | st.builds(lambda text, place: text[: place % (len(text) + 1)], _wrapped, st.integers(0, 400))
    | st.builds(
        lambda text, place, piece, gone: text[:place] + piece + text[place + gone :],
        _wrapped | st.sampled_from(GOOD),
        st.integers(0, 120),
        _pieces,
        st.integers(0, 3),
    )
    | st.text()
)
"""Texts along the grammar of answers, from right to absurd."""


class Mutator:
    """Damages good answers, the same way for the same seed.

    Args:
        seed: Of the pseudo-random draws.
        corpus: The answers to start from.
    """

    def __init__(self, seed: int, corpus: Sequence[str] = GOOD) -> None:
        self._random = random.Random(seed)
        self._corpus = [answer.encode() for answer in corpus]

    def text(self) -> str:
        """The next damaged answer; bytes that are no UTF-8 any more are replaced, as reading a body does."""
        data = self._random.choice(self._corpus)
        for _ in range(self._random.randint(1, 4)):
            data = self._random.choice(self._damages)(self, data)
        return data.decode("utf-8", "replace")

    def _place(self, data: bytes) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytes) -> bytes:
        changed, place = bytearray(data or b" "), self._place(data[:-1])
        changed[place] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        piece: str = self._random.choice([*'{}[]",:\\01-.\x00', "e9", "null"])
        return data[:place] + piece.encode() + data[place:]

    def _remove(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + data[place + self._random.choice((1, 1, 2, 8, 40)) :]

    def _repeat(self, data: bytes) -> bytes:
        first, last = sorted((self._place(data), self._place(data)))
        return data[:last] + data[first:last] * self._random.choice((1, 1, 2, 50)) + data[last:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        return data[: self._place(data)] + other[self._place(other) :]

    def _digit(self, data: bytes) -> bytes:
        places = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
        if not places:
            return data
        place = self._random.choice(places)
        return data[:place] + str(self._random.randrange(10)).encode() + data[place + 1 :]

    _damages = (_flip, _insert, _remove, _repeat, _splice, _digit)


def stated_lists(text: str) -> list[list[str]]:
    """The lists that the text states under the field's name, each split at its commas; no JSON is parsed."""
    text = text.replace("<think>{[}</think>", "")
    found: dict[bool, list[list[str]]] = {True: [], False: []}
    for key in re.finditer(r'"(desired[ _-]?rank(?:ing)?|ranking)"', text, re.IGNORECASE):
        after = text[key.end() :].lstrip(SPACE)
        value = after.removeprefix(":").lstrip(SPACE)
        if after.startswith(":") and value[:1] in ("[", '"') and value:
            written = value[1:].partition("]" if value[0] == "[" else '"')[0]
            marked = value[0] == "[" or any(mark in written for mark in ">,;")
            entries = written.replace(">", ",").replace(";", ",").split(",") if marked else written.split()
            entries = [entry.strip(SPACE) for entry in entries]
            found[key[1].lower() != "ranking"].append(entries[:-1] if value[0] == "[" and not entries[-1] else entries)
    return found[True] or found[False]


def objection(text: str, candidates: int, answer: Answer) -> str | None:
    """What is wrong with having read `answer` from `text`; None when it says what is written."""
    if any(type(position) is not int for position in answer.ranking):
        return "a position is no integer"
    if sorted(answer.ranking) != list(range(candidates)):
        return "the ranking is no permutation of the candidates"
    lists = stated_lists(text)
    if len(lists) != 1:
        return f"the text states {len(lists)} rankings"
    if [_id(entry) for entry in lists[0]] != list(answer.ranking):
        return "the ranking is another one than the text states"
    if not answer.rewrite or answer.rewrite != answer.rewrite.strip():
        return "the rewrite is empty or not stripped"
    return None


def _id(entry: str) -> int | None:
    """The id that a list's entry is as written: 2, 2.0, "2", "Response-2" and "\\u0032" are ids, 02 and true none."""
    digits = entry
    if len(entry) > 1 and entry[0] == entry[-1] == '"':
        digits = entry[1:-1].strip()
        for value in range(MOST_CANDIDATES):
            digits = digits.replace(f"\\u{0x30 + value:04x}", str(value))
    elif re.fullmatch(r"-?(0|[1-9])(\.[0-9]+)?(e[0-9]{1,3})?", entry) and float(entry) in range(10):
        digits = str(int(float(entry)))
    digits = digits.lower().removeprefix("response").lstrip("-_# ") if digits.lower().startswith("response") else digits
    whole, point, rest = digits.removesuffix(".").partition(".")
    if point and set(rest) != {"0"}:
        return None
    return int(whole) if len(whole) == 1 and whole in "0123456789" else None
