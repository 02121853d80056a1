"""A clock that is wrong by FEDPRUNE_TEST_CLOCK seconds, in every Python started."""

import datetime as dt
import os
import time

_SKEW = float(os.environ.get("FEDPRUNE_TEST_CLOCK", "0"))
_now = time.time


class Skewed(dt.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + dt.timedelta(seconds=_SKEW)


time.time = lambda: _now() + _SKEW
dt.datetime = Skewed
