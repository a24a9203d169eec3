"""Adapters to models and endpoints: the white box, the black box, reward models, offline stand-ins."""

import logging

# transformers and peft import DeepSpeed through accelerate, which then warns on every machine without a GPU.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
# peft imports bitsandbytes where it is installed, which then misses a kernel from the hub that nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "Failed to load CPU gemm_4bit_forward" not in record.getMessage()
)
