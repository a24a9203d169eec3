"""The white box: load an open causal LM, write its prompts, sample, score and train, on one rank or several."""

import logging

# transformers and peft import DeepSpeed through accelerate, which then warns on every machine without a GPU.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
# peft imports bitsandbytes where it is installed, which then misses a kernel from the hub that nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "Failed to load CPU gemm_4bit_forward" not in record.getMessage()
)
