"""Bills of clouds: what runs cost on them, read from their files or by a query of the engine that holds them."""
