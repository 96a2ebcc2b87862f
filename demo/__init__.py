"""The demo: real studies from the package registry through the Prefect flow into an index, and four searches."""
