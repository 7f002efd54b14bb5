"""Peak memory of one device: states, activations, sharding, and the calibrated remainder."""
