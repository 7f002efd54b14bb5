"""
A sandbox for the user's code before launch: no file of theirs changes, and none of its own stays.

`enter_sandbox` puts the process into one. Where the system has overlays that is a layer over every folder; else a copy
of the folders that the code works in, with Landlock or `sandbox-exec` to refuse any other write. Caches of hubs and
compilers are written for real.
"""

from trainfare.sandbox.caches import list_caches
from trainfare.sandbox.enter import Sandbox, SandboxKind, SandboxRequest, enter_sandbox
from trainfare.sandbox.folder_state import FolderState
from trainfare.sandbox.kernel import hide_memory, keep_signals_inside
from trainfare.sandbox.overlay import Overlay
from trainfare.sandbox.written import WriteWatch, Written, join_names, notes_of

__all__ = [
    "FolderState", "Overlay", "Sandbox", "SandboxKind", "SandboxRequest", "WriteWatch", "Written", "enter_sandbox",
    "hide_memory", "join_names", "keep_signals_inside", "list_caches", "notes_of",
]  # fmt: skip
