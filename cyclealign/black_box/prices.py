"""What a call costs: its worst case before it is sent, and its charge afterwards, in exact US dollars.

Prices come from `black_box.price`, else from the dated table of the installed `genai-prices` package, read offline.
Offline judges cost nothing. Everything is rounded against us: a charge may be above the bill (cached input counts in
full, input at the price of writing it to the provider's cache where that is dearer), never below it. Leaves out
reserving and adding up (`storage.calls`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from importlib.metadata import version
from typing import Any, Final

from genai_prices import Usage, calc_price

from cyclealign.black_box.capabilities import parameters_of
from cyclealign.errors import UsageError
from cyclealign.settings import BlackBoxSettings

MESSAGE_OVERHEAD: Final = 16
"""Tokens, at most, that role and separators add to a message."""
REQUEST_OVERHEAD: Final = 64
"""Tokens, at most, that a chat template adds to a request."""
MILLION: Final = Decimal(1_000_000)
Body = Mapping[str, Any]
"""The JSON of a request."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices at one endpoint."""

    settings: BlackBoxSettings
    share: Decimal = Decimal(1)
    """Of the price of a call that is sent alone; a Batch API costs less."""

    def cost_usd(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """The charge for one answered call; None where the price is unknown."""
        if self.settings.endpoint != "api":
            return Decimal(0)
        own = self.settings.price
        if own is not None and model == self.settings.model:
            prompt, completion = Decimal(str(own.input)), Decimal(str(own.output))
            full: Decimal | None = (prompt_tokens * prompt + completion_tokens * completion) / MILLION
        else:
            full = self._from_table(model, prompt_tokens, completion_tokens)
        return None if full is None else _rounded_up(full * self.share)

    def worst_case_usd(self, body: Body) -> Decimal | None:
        """The most that a request with this body can cost; None where the price is unknown.

        Raises:
            ValueError: the request does not limit its completion tokens, so there is no most.
        """
        return self.cost_usd(body["model"], most_prompt_tokens(body), most_completion_tokens(body))

    def reserve_usd(self, body: Body) -> Decimal:
        """What to set aside before a request is sent: its worst case; 0 for an unknown price without a cap.

        Raises:
            UsageError: there is a cap, and the price of the request's model is unknown.
        """
        self.require_price(body["model"])
        return self.worst_case_usd(body) or Decimal(0)

    def require_price(self, model: str | None = None) -> None:
        """Check that a cap can be kept when `model` is asked, by default the configured one.

        Raises:
            UsageError: there is a cap, and the model's price is unknown.
        """
        model = model or self.settings.model
        if self.settings.budget_usd is not None and self.cost_usd(model, 1, 1) is None:
            raise UsageError(
                f"black_box.budget_usd is set, but the price of {model} at "
                f"{self.settings.base_url} is not in the table of {self.source}. Set black_box.price.input "
                "and black_box.price.output (US dollars per million tokens; 0 for a server of your own), or "
                "remove the cap (null)."
            )

    @property
    def source(self) -> str:
        """Where the price of the configured model comes from, for reports."""
        if self.settings.endpoint != "api":
            return "offline, nothing to pay"
        if self.settings.price is not None:
            return "black_box.price"
        return f"genai-prices {version('genai-prices')}"

    def _from_table(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        plain = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
        cached = Usage(input_tokens=prompt_tokens, cache_write_tokens=prompt_tokens, output_tokens=completion_tokens)
        try:
            url = self.settings.base_url
            return max(calc_price(usage, model, provider_api_url=url).total_price for usage in (plain, cached))
        except LookupError:
            return None


def _rounded_up(usd: Decimal) -> Decimal:
    """To the nine decimals that the ledger keeps."""
    return usd.quantize(Decimal("1e-9"), ROUND_UP)


def most_prompt_tokens(body: Body) -> int:
    """An upper bound of the prompt tokens: a tokenizer makes at most one token of each UTF-8 byte."""
    written = sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in body["messages"])
    return written + len(json.dumps(parameters_of(body))) + REQUEST_OVERHEAD


def most_completion_tokens(body: Body) -> int:
    """The completion tokens that the request allows, over all its choices."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if isinstance(limit, int):
            return limit * int(body.get("n", 1))
    raise ValueError("found a request without max_tokens or max_completion_tokens, expected a limit on its cost")
