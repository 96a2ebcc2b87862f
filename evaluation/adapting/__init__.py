"""Heads that learn from an archive's own labels: vectors in which images of one label lie together.

Nothing is fitted on patients that it is scored on, and what is chosen is chosen inside the training patients.
"""
