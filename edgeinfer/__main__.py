"""`python -m edgeinfer` is the command `edgeinfer`."""

import sys

from edgeinfer.cli import main

sys.exit(main())
