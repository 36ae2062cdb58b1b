"""``python -m hrtem …`` is ``hrtem …``."""

from hrtem.command import main

if __name__ == "__main__":
    main()
