"""How responses are drawn, and where the server is that may draw them.

Part of `settings`, which uses both; leaves out what is sampled when.
"""

from typing import Annotated, Literal

from pydantic import Field

from cyclealign.setting_sections import Count, Section, added


class SamplingSettings(Section):
    """How responses are drawn."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 means greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 128
    engine: Literal["transformers", "compiled", "vllm"] = added("transformers")
    """`compiled`: one-token passes through torch.compile, for GPUs; sums are rounded otherwise, and compiling takes
    minutes for a large model. `vllm`: a server of that name draws, at `white_box.vllm`; its draws are others. So this
    influences results."""


class VllmSettings(Section):
    """The vLLM server of the white box's base model, started by hand: operational, whatever the engine."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$")] = "http://127.0.0.1:8000/v1"
    api_key_env: str = "VLLM_API_KEY"
    """Environment variable with the server's key; nothing is sent where it is not set."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """For all responses to a call's prompts, which are sent at once."""
    adapter_folder: str | None = None
    """Where adapters lie while the server has them loaded; None: the system's temporary folder.
    A server on another machine has to see this folder under the same path."""
