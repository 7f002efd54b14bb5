"""
A training script, run unchanged up to its call of `Trainer.fit`.

`run_script` runs it, and `run_callable` a callable that returns a Trainer. Each loop (`loop_scripts`) replaces what its
Trainer would start, write or need a GPU for; the call of `fit` becomes a `LiveJob`. All this changes frameworks for the
whole process, so it runs in a process of its own (`trainfare.user_process`). `probe_script` lets it train some steps,
with a meter.
"""

from trainfare.script.run import probe_script, run_callable, run_script

__all__ = ["probe_script", "run_callable", "run_script"]
