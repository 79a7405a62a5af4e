"""`python -m compress`."""

from compress.cli.start import main

if __name__ == "__main__":
    main()
