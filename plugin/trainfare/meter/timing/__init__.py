"""Times of one fit: steps and their phases, CUDA events, validation, and the comparison of ranks."""
