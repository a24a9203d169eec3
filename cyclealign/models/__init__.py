"""Adapters to models and endpoints: the white box, the black box, reward models, offline stand-ins."""

import logging

# transformers and peft import DeepSpeed through accelerate, which then warns on every machine without a GPU.
logging.getLogger("DeepSpeed").addFilter(
    lambda record: "Setting accelerator to CPU" not in record.getMessage()
)
