"""What all that trains shares: a network with variables and its loss, checkpoints, and the search for what is no finite
number."""
