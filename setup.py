"""The optional extension; everything else is in setup.cfg.

Where it can't be built, the package is installed without it, and dispatches in Python,
unless ALTDISPATCH_REQUIRE_SPEEDUPS says that it has to be there.
"""

import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

required = os.environ.get("ALTDISPATCH_REQUIRE_SPEEDUPS", "") not in ("", "0")
supported = sys.implementation.name == "cpython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)
if required and not supported:
    raise SystemExit(
        "ALTDISPATCH_REQUIRE_SPEEDUPS is set, but the extension is only for CPython "
        "with the GIL."
    )
speedups = Extension(
    "altdispatch._speedups",
    sources=["altdispatch/_speedups.c"],
    depends=glob("altdispatch/_headers/*.h"),
    optional=not required,
)

setup(ext_modules=[speedups] if supported else [])
