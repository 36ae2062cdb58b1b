"""Entry point of ``python -m hrtem …``, the same as ``hrtem …``."""

from hrtem.command import main

if __name__ == "__main__":
    main()
