"""A script that calls `Trainer.fit`: what its Trainer would start, write or need a GPU for is replaced."""
