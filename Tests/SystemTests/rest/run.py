"""`run.py MODULE CASE` exits 0 if that case holds, with the broker that the environment names (support.py)."""
import importlib
import os
import sys

if __name__ == "__main__":
    getattr(importlib.import_module(sys.argv[1]), sys.argv[2])()
    sys.stdout.flush()
    os._exit(0)
