"""Evaluation: how well images like the query are found, by published protocols and by better ones."""
