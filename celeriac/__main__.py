"""`python -m celeriac`."""

from celeriac.main import main

if __name__ == "__main__":
    main()
