"""The command line of Celeriac: `celeriac`, or `python -m celeriac`."""
