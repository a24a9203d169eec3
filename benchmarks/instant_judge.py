"""A black box that costs nothing: ranks in the order in which it was shown, and always writes the same.

It answers chat completions in this process, over the client of a paid model, so that all that the application does
around a question is done, and none of the time is the judge's.
"""

import json
from collections.abc import Mapping
from typing import Any

from cyclealign.offline.chat_messages import chat_completion, digest_of, last_user_message


class InstantJudge:
    """Answers at once.

    Args:
        candidates: How many responses it is asked to rank.
        rewrite: What it writes.
    """

    identity = "instant-judge"

    def __init__(self, candidates: int, rewrite: str) -> None:
        self._content = json.dumps({"desired rank": list(range(candidates)), "response": rewrite})

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The order of the prompt, as a chat-completion object."""
        last_user_message(body)
        return chat_completion(body, digest_of(body), self._content)
