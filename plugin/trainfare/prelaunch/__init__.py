"""Trace the user's module on fake tensors before launch; the entry is `job_trace.trace_job`."""
