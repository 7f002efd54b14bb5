"""
A job with activation checkpointing of the blocks that repeat, from the profile of the job without it.

Each block keeps what it is called with and runs its forward once more when its backward begins (Chen et al. 2016, one
segment a block). The operations are exact: a trace of the checkpointed job has the same. The highest instants of
memory are estimated, because a profile has no lifetimes of single tensors.
"""

from __future__ import annotations

from trainfare_core.job_profile import BlockFacts, JobProfile, MemoryFacts, MemoryMoment


def why_not_checkpointed(profile: JobProfile) -> str:
    """Return why there is no plan of a job with activation checkpointing; "" where there is one."""
    if any(group.recomputed for group in profile.operations):
        return "the script already checkpoints activations"
    blocks = profile.memory.blocks
    if blocks is None:
        return (
            "the profile names no blocks that repeat: the model has none, or an older version wrote the profile, and "
            "`trainfare profile` or FareMeter writes it again"
        )
    if blocks.saved_activation_bytes <= blocks.input_bytes:
        return "the blocks that repeat save no more than their inputs"
    return ""


def add_checkpointing(profile: JobProfile) -> JobProfile:
    """
    Return the profile of a job whose repeated blocks are checkpointed.

    Its measured peak of memory is left out, which is one without checkpointing, and so is the work by module.

    Args:
        profile: one for which `why_not_checkpointed` is "".
    """
    again = [
        group.model_copy(update={"phase": "backward", "recomputed": True})
        for group in profile.operations
        if group.in_block and group.phase == "forward"
    ]
    measured = profile.measured
    return profile.model_copy(
        update={
            "operations": (*profile.operations, *again),
            "modules": (),
            "memory": _reduce_memory(profile.memory),
            "measured": None if measured is None else measured.model_copy(update={"peak_memory_bytes": None}),
        }
    )


def _reduce_memory(facts: MemoryFacts) -> MemoryFacts:
    blocks = facts.blocks
    if blocks is None:
        return facts
    kept_bytes = max(0, facts.saved_activation_bytes - blocks.saved_activation_bytes) + blocks.input_bytes
    return facts.model_copy(
        update={
            "saved_activation_bytes": kept_bytes,
            "largest_temporary_bytes": max(facts.largest_temporary_bytes, blocks.largest_bytes),
            "moments": _moments(facts, blocks, kept_bytes),
        }
    )


def _moments(facts: MemoryFacts, blocks: BlockFacts, kept_bytes: int) -> tuple[MemoryMoment, ...]:
    """
    Return the highest instants: those that were, with fewer activations, and the backward of the last and first block.

    Activations go from block to block in backward, so a moment with a part of the saved ones has that part of those
    that are left. Gradients come as blocks go: both ends of that line are kept, and its middle is never higher than the
    higher end.
    """
    if not facts.moments:
        return ()
    saved = max(1, facts.saved_activation_bytes)
    moments: list[MemoryMoment] = []
    for moment in facts.moments:
        alive = min(saved, moment.activation_bytes) / saved
        gone = alive * (facts.saved_activation_bytes - kept_bytes)
        moments.append(moment.model_copy(update={"activation_bytes": round(moment.activation_bytes - gone)}))
    backward = [moment for moment in facts.moments if moment.phase == "backward"]
    if backward:
        last = min(backward, key=lambda moment: moment.gradient_bytes)
        first = max(backward, key=lambda moment: moment.gradient_bytes)
        moments.append(last.model_copy(update={"activation_bytes": kept_bytes + blocks.largest_bytes}))
        # The first block's inputs and what was saved before it are left; the rest of what is kept is freed.
        moments.append(
            first.model_copy(
                update={"activation_bytes": round(kept_bytes / blocks.count) + blocks.largest_bytes}
            )
        )
    return tuple(moments)
