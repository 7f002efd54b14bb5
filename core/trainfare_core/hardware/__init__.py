"""Every accelerator by name: peak FLOP/s per dtype, memory, bandwidths and links."""
