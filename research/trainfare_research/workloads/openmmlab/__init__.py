"""Networks of the OpenMMLab zoos."""
