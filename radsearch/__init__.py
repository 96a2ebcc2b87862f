"""Content-based image retrieval for radiology."""

__version__ = "0.1.0"
