"""Small models: pruning, the size of what is left, and a stored form that is as small."""
