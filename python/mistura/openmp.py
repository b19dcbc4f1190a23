"""How OpenMP's threads wait for their next piece of work, set before torch is loaded: OpenMP reads it then and never again.

They turn in circles for milliseconds, in case there is more soon. Beside anything else that wants the processors, a run's other
islands say, that is time in which the work itself stands still: a step on two threads took ten times as long, and more. The reference
learner's threads sleep. A trainer of somebody else's is left as it is.
"""

import os
import sys

SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says it otherwise: the standard's, GCC's, Intel's and LLVM's."""

if sys.argv[:1] == ["-m"] and not any(name in os.environ for name in SAID):  # python3 -m mistura.train is still looking for it
    os.environ["OMP_WAIT_POLICY"] = "passive"
