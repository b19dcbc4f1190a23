"""Says in one line what the package needs and this Python lacks, to people who run one of its programs.

A trainer that imports the package has the usual error, which names the line.
"""

import importlib.util
import sys

NEEDED = ("torch", "numpy")

if sys.argv[:1] == ["-m"]:  # python3 -m mistura.train is still looking for it
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        version = ".".join(str(n) for n in sys.version_info[:3])
        has_no = f"mistura: {sys.executable} (Python {version}) has no {' and no '.join(missing)}"
        print(f"{has_no}; install it by: {sys.executable} -m pip install {' '.join(NEEDED)}", file=sys.stderr)
        raise SystemExit(2)
