from types import FunctionType

from .dispatcher import make_coroutines as make_coroutines
from .together import start as start

def compile(function: FunctionType) -> FunctionType: ...

# From Python 3.12.
def accelerate(function: FunctionType, is_on: bool, /) -> None: ...
