"""What a user describes: a TrainingJob, a TARGET that names one, a LightningCLI configuration. No torch."""
