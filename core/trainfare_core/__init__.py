"""What is true of any training job and any price: no torch, Lightning, cloud SDK, network or clock."""
