"""How to train: scratch, full fine-tuning, LoRA, QLoRA or a linear probe, by the cost to reach a target."""
