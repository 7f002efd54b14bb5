"""Step time of decoder-only language models under tensor, pipeline, context and data parallelism."""
