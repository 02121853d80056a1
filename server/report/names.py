"""A readable name for every run: two words that its id always gives."""

import hashlib
import re
from typing import Final

_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-")
_ENDING: Final = re.compile(r"(?:^|-)([0-9a-f]{4})$")

_HOW_TEXT = """
    able airy amber ample azure bold brave brief bright brisk calm civil clear
    clever cosy crisp deft early easy exact fair fleet fond fresh gentle glad
    golden grand green happy hardy ivory jolly keen kind light lively loyal lucid
    mellow merry mild neat nimble noble olive plain proud quick quiet rapid ready
    royal rustic sage serene silver sleek smart snug sober solid spry steady still
    sturdy sunny swift tame tidy tranquil trusty vivid warm wise witty zesty
"""
_WHO_TEXT = """
    adder alder ant aspen badger beaver bee birch bison cedar condor crane cricket
    curlew deer dingo dove eagle egret elk elm falcon fern finch fox gecko goose
    grebe hare hawk hazel heron ibex ibis jay kestrel kite lark lemur linden lion
    lynx magpie maple marten mole moose newt oak okapi oriole osprey otter owl
    panda pine plover poplar puffin quail rabbit raven robin rowan seal sparrow
    spruce stoat stork swan swift tapir teal tern thrush tiger toad trout vole
    walrus willow wren yak zebra
"""
_HOW: Final = tuple(_HOW_TEXT.split())
_WHO: Final = tuple(_WHO_TEXT.split())


def code_name(run_id: str) -> str:
    """Return the two words of a run, and the id that its folder ends in.

    Equal ids give equal names, on every machine.

    >>> code_name("2026-11-28T00-11-52-8f15")
    'brisk-adder-8f15'
    """
    digest = hashlib.sha256(run_id.encode(errors="replace")).digest()
    how, who = (int.from_bytes(digest[at : at + 4]) for at in (0, 4))
    ending = _ENDING.search(run_id)
    last = ending[1] if ending else digest[8:10].hex()
    return f"{_HOW[how % len(_HOW)]}-{_WHO[who % len(_WHO)]}-{last}"


def given_name(run_id: str) -> str:
    """Return the name that the user gave a run, without time and id; "" without one.

    >>> given_name("2026-11-28T00-11-52-mnist-8f15")
    'mnist'
    """
    return _ENDING.sub("", _TIME.sub("", run_id))
