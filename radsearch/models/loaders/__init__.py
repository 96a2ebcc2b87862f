"""One file a library: each builds a network with its weights and says which features to take."""
