"""Step time of one device as a sum over its operations: the calibrated roofline."""
