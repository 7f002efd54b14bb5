"""One optimizer step as operations with FLOPs, bytes and memory; the entry is `step_trace.StepTrace`."""
