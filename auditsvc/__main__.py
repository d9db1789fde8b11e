"""``python -m auditsvc``."""

from auditsvc.cli import main

main()
